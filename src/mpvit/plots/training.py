"""How a run went, epoch by epoch; and which classes a network takes for which."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mpvit.plots import COLORS
from mpvit.training.results import Epoch, Evaluation, Interval, wilson
from mpvit.training.segmented import SegmenterEvaluation

_LETTERS = 8
_NAMED = 30
"""Classes whose names and numbers still fit a figure."""

_SHORT = 3
"""Letters of a name that fits under its column of so many."""


def curves_figure(epochs: Sequence[Epoch], title: str) -> Figure:
    """Return two panels over the epochs: losses, and the share of errors on pictures held out with its interval.

    Of a segmenter the second has what is missing to a mean intersection over union of 1.
    """
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    counted = [each.epoch for each in epochs]
    losses.plot(counted, [each.loss for each in epochs], color=COLORS[0], label="training, as pictures are changed")
    losses.plot(counted, [each.held_out_loss for each in epochs], color=COLORS[1], label="held out, averaged weights")
    losses.set_ylabel("cross-entropy", fontsize=_LETTERS + 1)
    shares, intervals = zip(*map(_held_out, epochs), strict=True)
    errors.fill_between(
        counted,
        [100 * (1 - each.high) for each in intervals],
        [100 * (1 - each.low) for each in intervals],
        color=COLORS[1],
        alpha=0.2,
        linewidth=0,
        label="95 % interval",
    )
    errors.plot(counted, [100 * (1 - share) for share in shares], color=COLORS[1], label="held out")
    errors.set_ylabel("100 % − mIoU" if epochs[0].overlap else "errors, % of pictures", fontsize=_LETTERS + 1)
    errors.set_yscale("log" if all(share < 1 for share in shares) else "linear")
    errors.yaxis.set_major_formatter("{x:g}")
    for axes in (losses, errors):
        axes.set_xlabel("epoch", fontsize=_LETTERS + 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=_LETTERS)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, which="major", color="0.93", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(fontsize=_LETTERS, frameon=False)
    losses.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=_LETTERS + 1)
    return figure


def _held_out(epoch: Epoch) -> tuple[float, Interval]:
    """Return the share of what is right on pictures held out, or a segmenter's mean IoU, and its interval."""
    if overlap := epoch.overlap:
        return overlap.miou, Interval(overlap.low, overlap.high)
    return epoch.held_out_accuracy, wilson(epoch.held_out_correct, epoch.held_out_images)


def confusion_figure(found: Evaluation | SegmenterEvaluation) -> Figure:
    """Return the confusion as shares of each class's pictures; its numbers and names where there are few classes.

    Of a segmenter it is that of pixels, and the numbers are percent of a class's.
    """
    count, whole = len(found.classes), isinstance(found, Evaluation)
    side = max(3.2, min(0.42 * count + 1.2, 9.0))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = [[number / max(sum(row), 1) for number in row] for row in found.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= _NAMED:
        angle, end = (45, "right") if max(map(len, found.classes)) > _SHORT else (0, "center")
        axes.set_xticks(range(count), found.classes, rotation=angle, ha=end, rotation_mode="anchor")
        axes.set_yticks(range(count), found.classes)
        for down, row in enumerate(found.confusion):
            for across, number in enumerate(row):
                text = str(number) if whole else f"{100 * shares[down][across]:.1f}"
                if number and text != "0.0":
                    color = "white" if shares[down][across] > 1 / 2 else "black"
                    axes.text(across, down, text, ha="center", va="center", fontsize=_LETTERS - 1, color=color)
    axes.tick_params(labelsize=_LETTERS, length=0)
    axes.set_xlabel("class that the network names", fontsize=_LETTERS + 1)
    axes.set_ylabel("class" if whole else "class, % of its pixels", fontsize=_LETTERS + 1)
    said = f"{found.model} on {found.data}: {found.correct} of {found.images} right"
    if isinstance(found, SegmenterEvaluation):
        right, miou = (f"{100 * share:.2f} %" for share in (found.pixel_accuracy, found.overlap.miou))
        said = f"{found.task} on {found.model}, {found.data}:\n{right} of pixels right, mIoU {miou}"
    axes.set_title(said, fontsize=_LETTERS + 1)
    return figure

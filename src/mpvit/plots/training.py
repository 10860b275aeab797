"""Training: the losses and errors of a run over its epochs, and the confusion matrix of an evaluation."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator

from mpvit.plots import COLORS, LEGEND, MEDIUM, SMALL, style_axes
from mpvit.training.metrics import Interval, wilson
from mpvit.training.results import Epoch, Evaluation

_NAMED = 30
"""Largest number of classes whose names and numbers fit a figure."""

_SHORT = 3
"""Longest name that fits under its column without being rotated, in letters."""


def curves_figure(epochs: Sequence[Epoch], title: str) -> Figure:
    """Return two panels over the epochs: the losses, and the errors on held-out images with their interval.

    The error of a segmenter is 1 minus its mean intersection over union.
    """
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    x = [each.epoch for each in epochs]
    losses.plot(x, [each.loss for each in epochs], color=COLORS[0], label="training, augmented images")
    losses.plot(x, [each.held_out_loss for each in epochs], color=COLORS[1], label="held-out images, averaged weights")
    shares, intervals = zip(*map(_held_out, epochs), strict=True)
    low, high = ([100 * (1 - end) for end in ends] for ends in zip(*intervals, strict=True))
    errors.fill_between(x, high, low, color=COLORS[1], alpha=0.2, linewidth=0, label="95 % interval")
    errors.plot(x, [100 * (1 - share) for share in shares], color=COLORS[1], label="held-out images")
    errors.set_yscale("log" if all(share < 1 for share in shares) else "linear")
    errors.yaxis.set_major_formatter("{x:g}")
    errors.yaxis.set_minor_formatter(LogFormatter())
    for axes, label in ((losses, "cross-entropy"), (errors, "100 % − mIoU" if epochs[0].overlap else "errors, % of images")):
        style_axes(axes, "epoch", label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(**LEGEND)
    losses.set_ylim(bottom=0)
    figure.suptitle(title, fontsize=MEDIUM)
    return figure


def _held_out(epoch: Epoch) -> tuple[float, Interval]:
    """Return the accuracy on held-out images, or the mean IoU of a segmenter, and its interval."""
    if overlap := epoch.overlap:
        return overlap.miou, Interval(overlap.low, overlap.high)
    return epoch.held_out_accuracy, wilson(epoch.held_out_correct, epoch.held_out_images)


def confusion_figure(found: Evaluation) -> Figure:
    """Return the confusion matrix as shares of each row; with names and numbers if there are few classes.

    The numbers of a classifier are images, those of a segmenter percent of the pixels of a class.
    """
    side = max(3.2, min(0.42 * len(found.classes) + 1.2, 9.0))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = [[number / max(sum(row), 1) for number in row] for row in found.metrics.confusion]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    segmenter, confusion = bool(found.task), found.metrics.confusion
    if len(found.classes) <= _NAMED:
        percent = [[f"{100 * share:.1f}" for share in row] for row in shares]
        _write_numbers(axes, found.classes, shares, percent if segmenter else [list(map(str, row)) for row in confusion])
    axes.tick_params(labelsize=SMALL, length=0)
    axes.set_xlabel("predicted class", fontsize=MEDIUM)
    axes.set_ylabel("class, % of its pixels" if segmenter else "class", fontsize=MEDIUM)
    axes.set_title(_confusion_title(found), fontsize=MEDIUM)
    return figure


def _write_numbers(
    axes: Axes, classes: Sequence[str], shares: Sequence[Sequence[float]], texts: Sequence[Sequence[str]]
) -> None:
    angle, end = (45, "right") if max(map(len, classes)) > _SHORT else (0, "center")
    axes.set_xticks(range(len(classes)), classes, rotation=angle, ha=end, rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), classes)
    for down, row in enumerate(texts):
        for across, text in enumerate(row):
            if text not in ("0", "0.0"):
                ink = "white" if shares[down][across] > 1 / 2 else "black"
                axes.text(across, down, text, ha="center", va="center", fontsize=SMALL - 1, color=ink)


def _confusion_title(found: Evaluation) -> str:
    metrics = found.metrics
    if metrics.overlap is None:
        return f"{found.model} on {found.data}: {metrics.correct} of {found.images} correct"
    accuracy, miou = (f"{100 * share:.2f} %" for share in (metrics.accuracy, metrics.overlap.miou))
    return f"{found.task} on {found.model}, {found.data}:\npixel accuracy {accuracy}, mIoU {miou}"

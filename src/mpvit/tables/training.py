"""What training and evaluation have found: the epochs, the classes, the whole."""

from collections.abc import Sequence
from typing import Any

from mpvit.model.metadata import MeanIoU, TrainingRecord
from mpvit.tables import Document, Field, Table, build
from mpvit.training.results import ClassResult, Epoch, Evaluation, Interval, ends, wilson

_ACCURACY_DIGITS = 2


def percent(share: float) -> str:
    """Return a share in percent: 98.61 %."""
    return f"{100 * share:.{_ACCURACY_DIGITS}f} %"


def share_text(correct: int, images: int) -> str:
    """Return a share in percent with its interval: 98.61 % (96.79–99.40)."""
    return interval_text(correct / images, wilson(correct, images))


def interval_text(share: float, interval: Interval) -> str:
    """Return a share in percent with an interval: 98.61 % (96.79–99.40)."""
    low, high = (f"{100 * end:.{_ACCURACY_DIGITS}f}" for end in interval)
    return f"{percent(share)} ({low}–{high})"


def overlap_text(overlap: MeanIoU) -> str:
    """Return a mean intersection over union in percent with its interval."""
    return interval_text(overlap.miou, Interval(overlap.low, overlap.high))


def trained_text(known: TrainingRecord) -> str:
    """Return how well weights do on pictures held out."""
    if known.overlap:
        return f"mIoU {overlap_text(known.overlap)} on {known.images} pictures held out"
    return f"{share_text(known.correct, known.images)} of {known.images} pictures held out"


# ── training ────────────────────────────────────────────────────────────────────────────────────────────────────────


def training_document(epochs: Sequence[Epoch], row: dict[str, Any], device: str, threads: int, dtype: str) -> Document:
    """Return the run's last epochs as a table, and what it came to as one ``row``, which says what was trained on what."""
    last = epochs[-1]
    whole = {
        **row,
        "epochs": last.epoch,
        "steps": last.step,
        "train_loss": last.loss,
        "loss": last.held_out_loss,
        "images": last.held_out_images,
        **_figures(last),
        "images_per_s": last.images_per_s,
    }
    if last.overlap:
        figure = f"mIoU {overlap_text(last.overlap)} on {last.held_out_images} pictures held out"
        title = f"{row['task']} on {row['model']}, {row['data']}: {figure}"
        table, notes = build(title, (*_EPOCH, *_OVERLAPS, _SPEED), epochs[-_SHOWN:]), _SEGMENTER_NOTES
    else:
        accuracy = share_text(last.held_out_correct, last.held_out_images)
        title = f"{row['model']} on {row['data']}: {accuracy} of {last.held_out_images} pictures held out"
        table, notes = build(title, (*_EPOCH, _TOP1, _SPEED), epochs[-_SHOWN:]), _TRAINING_NOTES
    return Document("train", (whole,), (table,), notes, device, threads, dtype)


def _figures(last: Epoch) -> dict[str, Any]:
    """Return what an epoch came to on pictures held out, as entries of a row."""
    if overlap := last.overlap:
        return {
            "pixels": overlap.pixels,
            "miou": overlap.miou,
            **ends("miou", Interval(overlap.low, overlap.high)),
            "pixel_accuracy": last.held_out_accuracy,
        }
    return {"top1": last.held_out_accuracy, **ends("top1", wilson(last.held_out_correct, last.held_out_images))}


_SHOWN = 5
"""Epochs in the table; log.jsonl has all."""

_EPOCH: tuple[Field[Epoch], ...] = (
    Field("Epoch", lambda epoch: epoch.epoch),
    Field("Loss", lambda epoch: f"{epoch.loss:.4f}"),
    Field("Accuracy", lambda epoch: percent(epoch.accuracy)),
    Field("Held-out loss", lambda epoch: f"{epoch.held_out_loss:.4f}"),
)
_TOP1: Field[Epoch] = Field("Top-1", lambda epoch: percent(epoch.held_out_accuracy))
_OVERLAPS: tuple[Field[Epoch], ...] = (
    Field("mIoU", lambda epoch: percent(epoch.overlap.miou) if epoch.overlap else None),
    Field("Pixels right", lambda epoch: percent(epoch.held_out_accuracy), optional=True),
)
_SPEED: Field[Epoch] = Field("Images/s", lambda epoch: f"{epoch.images_per_s:.0f}", optional=True)

_TRAINING_NOTES = (
    "Top-1 and held-out loss are of the averaged weights, which are kept; loss and accuracy of pictures as they were changed.",
    "The interval is Wilson's, of 95 %: what other pictures of the same kind would give, not what another seed would.",
)


RESAMPLED = "Its interval is of 95 %, of pictures drawn with replacement 2000 times: other pictures, not another seed."

_SEGMENTER_NOTES = (
    "mIoU and held-out loss are of the averaged weights, which are kept; loss and accuracy, of pixels, of pictures as changed.",
    f"mIoU is the mean over the classes of intersection ÷ union of their pixels in all pictures. {RESAMPLED}",
)


def epoch_text(epoch: Epoch, epochs: int) -> str:
    """Return an epoch in a line."""
    figure = f"mIoU {percent(epoch.overlap.miou)}" if epoch.overlap else f"top-1 {percent(epoch.held_out_accuracy)}"
    return (
        f"epoch {epoch.epoch}/{epochs}: loss {epoch.loss:.4f}, {figure}"
        f" (held-out loss {epoch.held_out_loss:.4f}), {epoch.images_per_s:.0f} images/s"
    )


# ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def evaluation_document(found: Evaluation, device: str, threads: int, mode: str) -> Document:
    """Return the whole and each class as tables; JSON has the classes and the confusion in the one row."""
    row = found.as_row() | {
        "mode": mode,
        "by_class": [each._asdict() for each in found.by_class],
        "confusion": [list(line) for line in found.confusion],
    }
    title = f"{found.model} on {found.data}, {found.part}: {found.images} pictures, weights {found.weights}"
    whole: list[tuple[str, str]] = [
        ("top-1", share_text(found.correct, found.images)),
        ("top-5", share_text(found.correct5, found.images)),
        ("loss", f"{found.loss:.4f}"),
        ("calibration error", percent(found.calibration_error)),
        ("images/s", f"{found.images_per_s:.0f}"),
    ]
    notes = (
        "Intervals are Wilson's, of 95 %. Top-5 of five classes or fewer is 1 by definition.",
        *damaged_notes(found.damaged),
    )
    return Document("eval", (row,), (whole_table(title, whole), _by_class(found)), notes, device, threads, "float32")


def whole_table(title: str, pairs: Sequence[tuple[str, str]]) -> Table:
    """Return a table of what is said of the whole."""
    return build(title, _PAIR, pairs)


_PAIR: tuple[Field[tuple[str, str]], ...] = (
    Field("What", lambda pair: pair[0], numeric=False),
    Field("", lambda pair: pair[1]),
)


def _by_class(found: Evaluation) -> Table:
    return build("By class", _CLASS, [each for each in found.by_class if each.images or each.predicted])


_CLASS: tuple[Field[ClassResult], ...] = (
    Field("Class", lambda each: each.name, numeric=False),
    Field("Pictures", lambda each: each.images),
    Field("Found", lambda each: each.correct),
    Field("Recall", lambda each: percent(each.correct / each.images) if each.images else None),
    Field("Named", lambda each: each.predicted, optional=True),
    Field("Precision", lambda each: percent(each.correct / each.predicted) if each.predicted else None, optional=True),
)


def damaged_notes(damaged: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return what is said of pictures that cannot be read."""
    if not damaged:
        return ()
    names = ", ".join(name for name, _ in damaged[:_NAMED])
    more = f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    return (f"{len(damaged)} pictures cannot be read and are left out: {names}{more}.",)


_NAMED = 5

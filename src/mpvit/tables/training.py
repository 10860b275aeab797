"""Training: the epochs of a run, and the accuracy of trained weights on held-out images."""

from collections.abc import Sequence
from typing import Any

from mpvit.model.metadata import MeanIoU, TrainingRecord
from mpvit.tables import Document, Field, build, known
from mpvit.tables.number_text import percent, percent_interval, share_text
from mpvit.training.metrics import Interval, interval_entries, wilson
from mpvit.training.results import Epoch

RESAMPLED = "Its 95 % interval comes from 2000 resamples of the images: it covers other images, not other seeds."


def overlap_text(overlap: MeanIoU) -> str:
    """Return a mean intersection over union in percent with its interval."""
    return percent_interval(overlap.miou, Interval(overlap.low, overlap.high))


def trained_text(record: TrainingRecord) -> str:
    """Return how well trained weights do on held-out images."""
    if record.overlap:
        return f"mIoU {overlap_text(record.overlap)} on {record.images} held-out images"
    return f"{share_text(record.correct, record.images)} of {record.images} held-out images"


_SHOWN = 5
"""Number of epochs in the table; log.jsonl has all."""

_EPOCH: tuple[Field[Epoch], ...] = (
    Field("Epoch", lambda epoch: epoch.epoch),
    Field("Loss", lambda epoch: f"{epoch.loss:.4f}"),
    Field("Accuracy", lambda epoch: percent(epoch.accuracy)),
    Field("Held-out loss", lambda epoch: f"{epoch.held_out_loss:.4f}"),
)
_TOP1: tuple[Field[Epoch], ...] = (Field("Top-1", lambda epoch: percent(epoch.held_out_accuracy)),)
_OVERLAP: tuple[Field[Epoch], ...] = (
    Field("mIoU", lambda epoch: known(epoch.overlap, lambda overlap: percent(overlap.miou))),
    Field("Pixel accuracy", lambda epoch: percent(epoch.held_out_accuracy), optional=True),
)
_SPEED: Field[Epoch] = Field("Images/s", lambda epoch: f"{epoch.images_per_s:.0f}", optional=True)

_NOTES = (
    "Top-1 and held-out loss: those of the averaged weights, which are saved. Loss and accuracy: on augmented training images.",
    "The interval is Wilson's 95 % interval: it covers other images of the same kind, not other seeds.",
)
_SEGMENTER_NOTES = (
    (
        "mIoU and held-out loss: those of the averaged weights, which are saved. Loss and accuracy: those of the pixels of "
        "augmented training images."
    ),
    f"mIoU: mean over the classes of intersection ÷ union of their pixels in all images. {RESAMPLED}",
)


def training_document(epochs: Sequence[Epoch], row: dict[str, Any], device: str, threads: int, dtype: str) -> Document:
    """Return the last epochs of a run as a table, and one row: ``row``, which says what was trained, with the results."""
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
        result = f"{row['task']} on {row['model']}, {row['data']}: mIoU {overlap_text(last.overlap)} on"
    else:
        result = f"{row['model']} on {row['data']}: {share_text(last.held_out_correct, last.held_out_images)} of"
    fields = (*_EPOCH, *(_OVERLAP if last.overlap else _TOP1), _SPEED)
    table = build(f"{result} {last.held_out_images} held-out images", fields, epochs[-_SHOWN:])
    return Document("train", (whole,), (table,), _SEGMENTER_NOTES if last.overlap else _NOTES, device, threads, dtype)


def _figures(last: Epoch) -> dict[str, Any]:
    """Return the results of an epoch on held-out images, as entries of a row."""
    if overlap := last.overlap:
        return {
            "pixels": overlap.pixels,
            "miou": overlap.miou,
            **interval_entries("miou", Interval(overlap.low, overlap.high)),
            "pixel_accuracy": last.held_out_accuracy,
        }
    return {"top1": last.held_out_accuracy, **interval_entries("top1", wilson(last.held_out_correct, last.held_out_images))}


def epoch_text(epoch: Epoch, epochs: int) -> str:
    """Return an epoch in one line."""
    figure = f"mIoU {percent(epoch.overlap.miou)}" if epoch.overlap else f"top-1 {percent(epoch.held_out_accuracy)}"
    return (
        f"epoch {epoch.epoch}/{epochs}: loss {epoch.loss:.4f}, {figure}"
        f" (held-out loss {epoch.held_out_loss:.4f}), {epoch.images_per_s:.0f} images/s"
    )

"""Segmenters: the classes of the pixels of each image, and how well a segmenter does on labelled images."""

from collections.abc import Sequence
from typing import Any

from mpvit.prediction.results import Classifier, ClassShare, Segmentation
from mpvit.tables import Document, Field, Share, build
from mpvit.tables.number_text import percent, percent_interval
from mpvit.tables.training import RESAMPLED, damaged_notes, evaluation_table, overlap_text, trained_text
from mpvit.training.segmented import ClassPixels, SegmenterEvaluation

# ── prediction ──────────────────────────────────────────────────────────────────────────────────────────────────────

_Row = tuple[Segmentation, int, ClassShare | None]
"""A segmented image, a rank from 1, and the class of that rank; no class where the image cannot be read."""

_FIELDS: tuple[Field[_Row], ...] = (
    Field("Image", lambda row: row[0].image if row[1] == 1 else "", numeric=False),
    Field("Index", lambda row: row[2].index if row[2] else None),
    Field("Class", lambda row: row[2].name if row[2] else row[0].error, numeric=False),
    Field("Pixels", lambda row: row[2].pixels if row[2] else None),
    Field("% of image", lambda row: Share(row[2].share) if row[2] else None),
)


def segmentation_document(found: Sequence[Segmentation], network: Classifier, top: int) -> Document:
    """Return the ``top`` largest classes of each image; an image that cannot be read has one row with its error."""
    rows: list[_Row] = [(each, rank, one) for each in found for rank, one in enumerate(each.classes[:top] or (None,), 1)]
    title = f"{network.task} on {network.model}, weights {network.weights}"
    if known := network.training:
        title += f", trained on {known.data}: {trained_text(known)}"
    results = tuple(_result(row, network) for row in rows)
    where = (network.device, network.threads, network.dtype)
    return Document("predict", results, (build(title, _FIELDS, rows),), (), *where)


def _result(row: _Row, network: Classifier) -> dict[str, Any]:
    found, rank, one = row
    return {
        "image": found.image,
        "model": network.model,
        "task": network.task,
        "weights": network.weights,
        "error": found.error or None,
        "rank": rank if one else None,
        "class_index": one.index if one else None,
        "class_name": one.name if one else None,
        "pixels": one.pixels if one else None,
        "share": one.share if one else None,
    }


# ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────────────────

_MEAN = f"mIoU: mean over the classes of intersection ÷ union of their pixels in all images. {RESAMPLED}"

_CLASS: tuple[Field[ClassPixels], ...] = (
    Field("Class", lambda each: each.name, numeric=False),
    Field("IoU", lambda each: percent_interval(each.iou, each.interval) if each.iou is not None and each.interval else None),
    Field("Pixels", lambda each: each.pixels),
    Field("Recall", lambda each: percent(each.correct / each.pixels) if each.pixels else None, optional=True),
    Field("Precision", lambda each: percent(each.correct / each.predicted) if each.predicted else None, optional=True),
)


def segmenter_document(found: SegmenterEvaluation, device: str, threads: int, mode: str) -> Document:
    """Return the figures of the whole and of each class as tables; the row of JSON has the classes and the confusion matrix."""
    row = found.as_row() | {
        "mode": mode,
        "by_class": [each.as_entry() for each in found.by_class],
        "confusion": [list(line) for line in found.confusion],
    }
    whole = {
        "mIoU": overlap_text(found.overlap),
        "pixel accuracy": percent_interval(found.pixel_accuracy, found.accuracy_interval),
        "loss": f"{found.loss:.4f}",
        "images/s": f"{found.images_per_s:.0f}",
    }
    by_class = build("By class", _CLASS, [each for each in found.by_class if each.iou is not None])
    tables = (evaluation_table(f"{found.task} on {found.model}", found, whole), by_class)
    return Document("eval", (row,), tables, (_MEAN, *damaged_notes(found.damaged)), device, threads, "float32")

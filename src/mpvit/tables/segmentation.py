"""What segmenters see: the classes of each picture's pixels; and how well they do."""

from collections.abc import Sequence
from typing import Any

from mpvit.prediction.results import Classifier, Segmentation
from mpvit.tables import Cell, Column, Document, Field, Share, Table, build
from mpvit.tables.training import (
    RESAMPLED,
    damaged_notes,
    interval_text,
    overlap_text,
    percent,
    trained_text,
    whole_table,
)
from mpvit.training.segmented import ClassPixels, SegmenterEvaluation

# ── prediction ──────────────────────────────────────────────────────────────────────────────────────────────────────


def segmentation_document(found: Sequence[Segmentation], network: Classifier, top: int) -> Document:
    """Return the ``top`` largest classes of each image; an image that could not be read has one row with its error."""
    columns = (Column("Image"), Column("Index", numeric=True), Column("Class"), Column("Pixels", numeric=True))
    rows = [row for each in found for row in _cells(each, top)]
    title = f"{network.task} on {network.model}, weights {network.weights}"
    if known := network.training:
        title += f", trained on {known.data}: {trained_text(known)}"
    table = Table(title, (*columns, Column("% of image", numeric=True)), tuple(rows))
    results = tuple(row for each in found for row in _rows(each, network, top))
    return Document("predict", results, (table,), (), network.device, network.threads, network.dtype)


def _cells(found: Segmentation, top: int) -> list[tuple[Cell, ...]]:
    """Return the rows that a person reads: the image is named on the first."""
    if found.error:
        return [(found.image, None, found.error, None, None)]
    return [
        (found.image if rank == 0 else "", each.index, each.name, each.pixels, Share(each.share))
        for rank, each in enumerate(found.classes[:top])
    ]


def _rows(found: Segmentation, network: Classifier, top: int) -> list[dict[str, Any]]:
    same = {
        "image": found.image,
        "model": network.model,
        "task": network.task,
        "weights": network.weights,
        "error": found.error or None,
    }
    if found.error:
        return [same | dict.fromkeys(("rank", "class_index", "class_name", "pixels", "share"))]
    return [
        same | {"rank": rank, "class_index": each.index, "class_name": each.name, "pixels": each.pixels, "share": each.share}
        for rank, each in enumerate(found.classes[:top], 1)
    ]


# ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────────────────


def segmenter_document(found: SegmenterEvaluation, device: str, threads: int, mode: str) -> Document:
    """Return the whole and each class as tables; JSON has the classes and the confusion in the one row."""
    row = found.as_row() | {
        "mode": mode,
        "by_class": [each.as_entry() for each in found.by_class],
        "confusion": [list(line) for line in found.confusion],
    }
    title = f"{found.task} on {found.model}, {found.data}, {found.part}: {found.images} pictures, weights {found.weights}"
    whole = [
        ("mIoU", overlap_text(found.overlap)),
        ("pixel accuracy", interval_text(found.pixel_accuracy, found.accuracy_interval)),
        ("loss", f"{found.loss:.4f}"),
        ("images/s", f"{found.images_per_s:.0f}"),
    ]
    tables = (whole_table(title, whole), build("By class", _CLASS, [each for each in found.by_class if each.iou is not None]))
    notes = (_MEAN, *damaged_notes(found.damaged))
    return Document("eval", (row,), tables, notes, device, threads, "float32")


_MEAN = f"mIoU is the mean over the classes that there are of intersection ÷ union of their pixels in all pictures. {RESAMPLED}"

_CLASS: tuple[Field[ClassPixels], ...] = (
    Field("Class", lambda each: each.name, numeric=False),
    Field("IoU", lambda each: interval_text(each.iou, each.interval) if each.iou is not None and each.interval else None),
    Field("Pixels", lambda each: each.pixels),
    Field("Recall", lambda each: percent(each.correct / each.pixels) if each.pixels else None, optional=True),
    Field("Precision", lambda each: percent(each.correct / each.predicted) if each.predicted else None, optional=True),
)

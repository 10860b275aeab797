"""Evaluation of a classifier or a segmenter: figures for all images together, and for each class."""

from collections.abc import Sequence

from mpvit.tables import Document, Field, build
from mpvit.tables.number_text import percent, percent_interval, share_text
from mpvit.tables.training import RESAMPLED, overlap_text
from mpvit.training.metrics import ClassMetrics, SegmentationMetrics
from mpvit.training.results import Evaluation

_NAMED = 5
"""Number of damaged files that a note names."""

_FIGURE: tuple[Field[tuple[str, str]], ...] = (
    Field("Figure", lambda pair: pair[0], numeric=False),
    Field("", lambda pair: pair[1]),
)

_CLASSIFIED: tuple[Field[ClassMetrics], ...] = (
    Field("Class", lambda each: each.name, numeric=False),
    Field("Images", lambda each: each.count),
    Field("Correct", lambda each: each.correct),
    Field("Recall", lambda each: percent(each.correct / each.count) if each.count else None),
    Field("Predicted", lambda each: each.predicted, optional=True),
    Field("Precision", lambda each: percent(each.correct / each.predicted) if each.predicted else None, optional=True),
)
_SEGMENTED: tuple[Field[ClassMetrics], ...] = (
    Field("Class", lambda each: each.name, numeric=False),
    Field("IoU", lambda each: percent_interval(each.iou, each.interval) if each.iou is not None and each.interval else None),
    Field("Pixels", lambda each: each.count),
    Field("Recall", lambda each: percent(each.correct / each.count) if each.count else None, optional=True),
    Field("Precision", lambda each: percent(each.correct / each.predicted) if each.predicted else None, optional=True),
)

_CLASSIFIED_NOTE = "Intervals are Wilson's 95 % intervals. With five classes or fewer, top-5 is 1 by definition."
_SEGMENTED_NOTE = f"mIoU: mean over the classes of intersection ÷ union of their pixels in all images. {RESAMPLED}"


def evaluation_document(found: Evaluation, device: str, threads: int, mode: str) -> Document:
    """Return the figures of the whole and of each class as tables; the row of JSON has the classes and the confusion matrix."""
    metrics = found.metrics
    row = found.as_row() | {
        "mode": mode,
        "by_class": metrics.class_rows(found.classes),
        "confusion": [list(line) for line in metrics.confusion],
    }
    network = f"{found.task} on {found.model}" if found.task else found.model
    title = f"{network} on {found.data}, {found.part}: {found.images} images, weights {found.weights}"
    loss, speed = {"loss": f"{metrics.loss:.4f}"}, {"images/s": f"{found.images_per_s:.0f}"}
    classes = metrics.by_class(found.classes)
    if isinstance(metrics, SegmentationMetrics):
        accuracy = percent_interval(metrics.accuracy, metrics.accuracy_interval)
        figures = {"mIoU": overlap_text(metrics.overlap), "pixel accuracy": accuracy} | loss | speed
        by_class = build("By class", _SEGMENTED, [each for each in classes if each.iou is not None])
    else:
        correct = {"top-1": metrics.correct, "top-5": metrics.correct5}
        figures = {name: share_text(number, metrics.count) for name, number in correct.items()} | loss
        figures |= {"calibration error": percent(metrics.calibration_error)} | speed
        by_class = build("By class", _CLASSIFIED, [each for each in classes if each.count or each.predicted])
    notes = (_SEGMENTED_NOTE if found.task else _CLASSIFIED_NOTE, *_damaged_notes(found.damaged))
    whole = build(title, _FIGURE, list(figures.items()))
    return Document("eval", (row,), (whole, by_class), notes, device, threads, "float32")


def _damaged_notes(damaged: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    if not damaged:
        return ()
    names = ", ".join(name for name, _ in damaged[:_NAMED])
    more = f" and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    return (f"{len(damaged)} images cannot be read and are left out: {names}{more}.",)

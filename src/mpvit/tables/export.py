"""An exported network next to the one in torch: the differences of their outputs, and their accuracies."""

from collections.abc import Iterator, Sequence
from typing import Any

from mpvit.export.results import Difference, ExportResult
from mpvit.tables import Document, Field, build
from mpvit.tables.number_text import bytes_text, number_text, percent, share_text
from mpvit.training.results import Evaluation
from mpvit.units import times

_DIFFERENCE: tuple[Field[Difference], ...] = (
    Field("Images", lambda each: times(each.shape), numeric=False),
    Field("Largest difference of a logit", lambda each: number_text(each.absolute, ".1e")),
    Field("of a probability", lambda each: number_text(each.probability, ".1e")),
    Field("relative norm", lambda each: number_text(each.relative, ".1e")),
)

_Accuracy = tuple[str, str, Evaluation]
"""An engine, the dtype of its weights, and its evaluation."""

_ACCURACY: tuple[Field[_Accuracy], ...] = (
    Field("Engine", lambda row: row[0], numeric=False),
    Field("Dtype", lambda row: row[1], numeric=False),
    Field("Top-1", lambda row: share_text(row[2].metrics.correct, row[2].images)),
    Field("Loss", lambda row: f"{row[2].metrics.loss:.4f}"),
    Field("Calibration error", lambda row: percent(row[2].metrics.as_row()["calibration_error"]), optional=True),
)


def export_document(exported: ExportResult, accuracies: Sequence[Evaluation] = (), file: str | None = None) -> Document:
    """Return the differences and, if the network was evaluated, the ``accuracies`` of torch and of the engine."""
    options = exported.options
    fused = ", fused" if options.fused else ""
    title = (
        f"{exported.model} to {options.target}, {options.dtype}{fused}, {bytes_text(exported.nbytes)}: "
        f"{exported.engine} compared with torch"
    )
    tables = [build(title, _DIFFERENCE, exported.differences)]
    rows: list[dict[str, Any]] = [row | {"file": file} for row in exported.rows()]
    if accuracies:
        engines = (exported.reference, exported.engine)
        pairs = list(zip(engines, ("float32", options.dtype), accuracies, strict=True))
        first = accuracies[0]
        tables.append(build(f"On {first.data}, {first.part}: {first.images} images", _ACCURACY, pairs))
        rows += [{"table": "accuracy", "engine": engine, "dtype": dtype, **found.as_row()} for engine, dtype, found in pairs]
    where = ("cpu", exported.threads, options.dtype)
    return Document("export", tuple(rows), tuple(tables), tuple(_notes(exported, accuracies)), *where)


def _notes(exported: ExportResult, accuracies: Sequence[Evaluation]) -> Iterator[str]:
    yield (
        "Differences are those from torch in float32. relative norm: norm of the difference divided by the norm of the output; "
        f"a file with more than {exported.tolerance:g} is not written."
    )
    if exported.calibrated:
        yield f"The ranges of int8 are calibrated on {exported.calibrated} training images."
    if accuracies:
        yield "Intervals are Wilson's 95 % intervals."
        if exported.calibrated and accuracies[0].part == "all":
            yield "No images are held out here: those of the calibration are among them."

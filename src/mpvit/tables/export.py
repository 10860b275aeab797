"""What an export came to: how far its engine is from torch, and how well it does on pictures."""

from collections.abc import Sequence
from typing import Any

from mpvit.export.results import Difference, ExportResult
from mpvit.tables import Document, Field, Table, build
from mpvit.tables.measured import number_text
from mpvit.tables.memory import readable_bytes
from mpvit.tables.training import share_text
from mpvit.training.results import Evaluation
from mpvit.units import times


def export_document(exported: ExportResult, accuracies: Sequence[Evaluation] = (), file: str | None = None) -> Document:
    """Return the differences and, where pictures were given, torch's accuracy and the engine's as tables and rows."""
    options = exported.options
    arranged = ", fused" if options.fused else ""
    title = (
        f"{exported.model} to {options.target}, {options.dtype}{arranged}, {readable_bytes(exported.nbytes)}: "
        f"{exported.engine} beside torch"
    )
    tables = [build(title, _DIFFERENCE, exported.differences)]
    rows: list[dict[str, Any]] = [row | {"file": file} for row in exported.rows()]
    if accuracies:
        pairs = list(
            zip(
                (exported.reference, exported.engine),
                ("float32", options.dtype),
                accuracies,
                strict=True,
            )
        )
        tables.append(_accuracy_table(pairs))
        rows += [{"table": "accuracy", "engine": engine, "dtype": dtype, **found.as_row()} for engine, dtype, found in pairs]
    return Document(
        "export", tuple(rows), tuple(tables), tuple(_notes(exported, accuracies)), "cpu", exported.threads, options.dtype
    )


_DIFFERENCE: tuple[Field[Difference], ...] = (
    Field("Images", lambda each: times(each.shape), numeric=False),
    Field("Largest difference of a logit", lambda each: number_text(each.absolute, ".1e")),
    Field("of a probability", lambda each: number_text(each.probability, ".1e")),
    Field("norm over norm", lambda each: number_text(each.relative, ".1e")),
)

_Accuracy = tuple[str, str, Evaluation]

_ACCURACY: tuple[Field[_Accuracy], ...] = (
    Field("Engine", lambda row: row[0], numeric=False),
    Field("Numbers", lambda row: row[1], numeric=False),
    Field("Top-1", lambda row: share_text(row[2].correct, row[2].images)),
    Field("Loss", lambda row: f"{row[2].loss:.4f}"),
    Field("Calibration error", lambda row: f"{100 * row[2].calibration_error:.2f} %", optional=True),
)


def _accuracy_table(rows: Sequence[_Accuracy]) -> Table:
    found = rows[0][2]
    return build(f"On {found.data}, {found.part}: {found.images} pictures", _ACCURACY, rows)


def _notes(exported: ExportResult, accuracies: Sequence[Evaluation]) -> list[str]:
    notes = [f"Differences from torch in float32; a norm over norm above {exported.tolerance:g} is not written."]
    if exported.calibrated:
        notes.append(f"Ranges of int8 are those of {exported.calibrated} pictures to learn from.")
    if accuracies:
        notes.append("Intervals are Wilson's, of 95 %.")
        if exported.calibrated and accuracies[0].part == "all":
            notes.append("Nothing is held out of these pictures: those of the calibration are among them.")
    return notes

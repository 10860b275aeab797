"""The cost of detectors and segmenters: counts next to the figures that the paper prints."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from mpvit.counting.published import Findings
from mpvit.counting.results import Count
from mpvit.operations.conventions import CONVENTIONS
from mpvit.tables import Cell, Compared, Document, Field, build, varying
from mpvit.tables.counts import FIGURES, UNITS
from mpvit.units import times

_NAMES: tuple[Field[Count], ...] = (
    Field("Task", attrgetter("task.name"), numeric=False),
    Field("Model", lambda c: c.model, numeric=False),
)
_INPUT: Field[Count] = Field("Input", lambda c: times(c.input_shape), numeric=False, optional=True)
_SETTINGS: tuple[Field[Count], ...] = (
    _INPUT,
    Field("Classes", attrgetter("task.classes"), optional=True),
    Field("Proposals", lambda c: (c.task and c.task.proposals) or None, optional=True),
    Field("Detections", lambda c: (c.task and c.task.detections) or None, optional=True),
    Field("Convention", lambda c: c.convention, numeric=False, optional=True),
)
_CHECKED: tuple[Field[Count], ...] = (
    _INPUT,
    Field("Params", lambda c: c.params),
    Field("Published, M", lambda c: _printed(c, 0)),
    Field("MACs", lambda c: c.macs),
    Field("Published, G", lambda c: _printed(c, 1)),
)


def task_document(counts: Sequence[Count]) -> Document:
    """Return one row per task and network; the title has the settings that all rows share."""
    settings, title = varying(_SETTINGS, counts)
    fields: list[Field[Any]] = [*_NAMES, *settings, *FIGURES]
    return Document("flops", tuple(count.as_row() for count in counts), (build(title, fields, counts),), (UNITS,))


def check_document(counts: Sequence[Count], findings: Findings) -> Document:
    """Return the counts next to the printed figures, and notes on how far they agree."""
    table = build(f"convention {counts[0].convention}", [*_NAMES, *_CHECKED], counts)
    notes = (UNITS, *_check_notes(counts, findings))
    return Document("flops", tuple(count.as_row() for count in counts), (table,), notes)


def _printed(count: Count, figure: int) -> Cell:
    if count.printed is None or count.agreement is None:
        return None
    figures = (count.printed.params_millions, count.printed.macs_billions)
    return Compared(figures[figure], count.agreement[figure])


def _check_notes(counts: Sequence[Count], findings: Findings) -> list[str]:
    params, macs = (sum(agreed) for agreed in zip(*(each.agreement or (False, False) for each in counts), strict=True))
    total = len(counts)
    notes = [
        f"✓ rounds to the published figure, ✗ does not: {params} of {total} params and {macs} of {total} MACs do.",
        "The published figures leave out the einsums of the attention; those of classification include them.",
    ]
    if findings.as_classified:
        found = "; ".join(
            f"{each.task and each.task.name} has {(each.params or 0) / 1e6:.2f} M params and {_giga(each)} MACs"
            for each in findings.as_classified
        )
        notes.append(f"The published tiny backbone has MLP ratio 4. With the ratio 2 of classification, {found}.")
    if findings.unexplained:
        first = findings.unexplained[0]
        printed = first.printed.macs_billions if first.printed else 0
        found = ", ".join(f"{_giga(each)} ({each.convention})" for each in findings.unexplained)
        notes.append(f"{first.label}: none of {len(CONVENTIONS)} conventions explains the published {printed} G: {found}.")
    return notes


def _giga(count: Count) -> str:
    return f"{(count.macs or 0) / 1e9:.2f} G"

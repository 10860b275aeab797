"""The cost of networks, detectors and segmenters: counts next to the published figures, and the parts of a network."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from operator import attrgetter

from mpvit.counting.published import Findings
from mpvit.counting.results import TOTAL, Count
from mpvit.operations.conventions import CONVENTIONS
from mpvit.tables import Cell, Compared, Document, Field, build, known, varying
from mpvit.units import times

UNITS = "1 MAC (multiply-add) = 2 FLOPs; the paper and fvcore print MACs as FLOPs."

_TASK: Field[Count] = Field("Task", attrgetter("task.name"), numeric=False)
_MODEL: Field[Count] = Field("Model", lambda c: c.model, numeric=False)
_INPUT: Field[Count] = Field("Input", lambda c: times(c.input_shape), numeric=False, optional=True)
_SETTINGS: tuple[Field[Count], ...] = (
    replace(_INPUT, optional=False),
    Field("Classes", lambda c: known(c.task, attrgetter("classes")), optional=True),
    Field("Proposals", lambda c: (c.task and c.task.proposals) or None, optional=True),
    Field("Detections", lambda c: (c.task and c.task.detections) or None, optional=True),
    Field("Counter", lambda c: c.counter, numeric=False),
    Field("Convention", lambda c: c.convention, numeric=False),
)
_FIGURES: tuple[Field[Count], ...] = (
    Field("Params", lambda c: c.params),
    Field("MACs", lambda c: c.macs),
    Field("FLOPs = 2 MACs", lambda c: c.flops, optional=True),
    Field("Activations", lambda c: c.activations, optional=True),
)
_LAYER: tuple[Field[Count], ...] = (
    Field("Kind", lambda c: c.layer.kind if c.layer else "", numeric=False, optional=True),
    Field("Output", lambda c: times(c.layer.output_shape) if c.layer else "", numeric=False, optional=True),
    Field("Calls", lambda c: c.layer.calls if c.layer else "", optional=True),
)


def count_document(counts: Sequence[Count]) -> Document:
    """Return the counts of whole networks next to the published ones and, for the live counters, the closed form.

    The title has the settings that all of them share.
    """
    settings, title = varying(_SETTINGS, counts)
    fields = [*([_TASK] if counts[0].task else []), _MODEL, *settings, *_FIGURES]
    if not counts[0].task:
        fields.append(Field("Published MACs", _published_macs))
    if any(count.closed_form_macs is not None for count in counts):
        fields.append(Field("Closed form", _closed_form_macs, optional=True))
    rows = tuple(count.as_row() for count in counts)
    return Document("flops", rows, (build(title, fields, counts),), tuple(_notes(counts)))


def check_document(counts: Sequence[Count], findings: Findings) -> Document:
    """Return counts of detectors and segmenters next to the printed figures, and notes on how far they agree."""
    fields: list[Field[Count]] = [
        *(_TASK, _MODEL, _INPUT, _FIGURES[0]),
        Field("Published, M", lambda c: _printed(c, 0)),
        _FIGURES[1],
        Field("Published, G", lambda c: _printed(c, 1)),
    ]
    table = build(f"convention {counts[0].convention}", fields, counts)
    notes = (UNITS, *_check_notes(counts, findings))
    return Document("flops", tuple(count.as_row() for count in counts), (table,), notes)


def parts_document(counted: Sequence[tuple[Count, Sequence[Count]]], by: str) -> Document:
    """Return one table per network: its parts, the share of the MACs of each, and their sum."""
    tables = []
    for total, parts in counted:
        part: Field[Count] = Field(by.capitalize(), lambda c: c.part, numeric=False)
        fields = [part, *(_LAYER if by == "layer" else ()), *_FIGURES[:2], _share_of(total), *_FIGURES[2:]]
        _, title = varying(_SETTINGS, [total])
        tables.append(build(f"{total.label}: {title}", fields, [*parts, total], footer=True))
    rows = tuple(count.as_row() for total, parts in counted for count in (*parts, total))
    return Document("flops", rows, tuple(tables), tuple(_notes([total for total, _ in counted])))


def _share_of(total: Count) -> Field[Count]:
    whole = total.macs or 1
    return Field("% of MACs", lambda count: f"{100 * (count.macs or 0) / whole:.1f}", optional=True)


def _published_macs(count: Count) -> Compared | None:
    return Compared(count.published.macs, count.agrees) if count.published and count.agrees is not None else None


def _closed_form_macs(count: Count) -> Compared | None:
    same = count.agrees_with_closed_form
    return Compared(count.closed_form_macs, same) if count.closed_form_macs is not None and same is not None else None


def _notes(counts: Sequence[Count]) -> Iterator[str]:
    yield UNITS
    if any(count.agrees is not None for count in counts if count.part == TOTAL):
        yield "✓ parameters, MACs and activations equal the published integers; ✗ at least one differs."
    yield from (f"{count.model}: {count.error}" for count in counts if count.error)


def _printed(count: Count, figure: int) -> Cell:
    if count.printed is None or count.agreement is None:
        return None
    figures = (count.printed.params_millions, count.printed.macs_billions)
    return Compared(figures[figure], count.agreement[figure])


def _check_notes(counts: Sequence[Count], findings: Findings) -> Iterator[str]:
    params, macs = (sum(agreed) for agreed in zip(*(each.agreement or (False, False) for each in counts), strict=True))
    total = len(counts)
    yield f"✓ rounds to the published figure, ✗ does not: {params} of {total} params and {macs} of {total} MACs do."
    yield "The published figures leave out the einsums of the attention; those of classification include them."
    if findings.as_classified:
        found = "; ".join(
            f"{each.task and each.task.name} has {(each.params or 0) / 1e6:.2f} M params and {_giga(each)} MACs"
            for each in findings.as_classified
        )
        yield f"The published tiny backbone has MLP ratio 4. With the ratio 2 of classification, {found}."
    if findings.unexplained:
        first = findings.unexplained[0]
        printed = first.printed.macs_billions if first.printed else 0
        found = ", ".join(f"{_giga(each)} ({each.convention})" for each in findings.unexplained)
        yield f"{first.label}: none of {len(CONVENTIONS)} conventions explains the published {printed} G: {found}."


def _giga(count: Count) -> str:
    return f"{(count.macs or 0) / 1e9:.2f} G"

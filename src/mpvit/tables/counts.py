"""The cost of networks: counts next to the published figures, and the parts of a network."""

from collections.abc import Sequence

from mpvit.counting.results import TOTAL, Count
from mpvit.tables import Compared, Document, Field, build, varying
from mpvit.units import times

UNITS = "1 MAC (multiply-add) = 2 FLOPs; the paper and fvcore print MACs as FLOPs."

_MODEL: Field[Count] = Field("Model", lambda c: c.model, numeric=False)
_IDENTITY: tuple[Field[Count], ...] = (
    Field("Input", lambda c: times(c.input_shape), numeric=False),
    Field("Counter", lambda c: c.counter, numeric=False),
    Field("Convention", lambda c: c.convention, numeric=False),
)
FIGURES: tuple[Field[Count], ...] = (
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
    """Return the counts of whole networks next to the published ones and, for the live counters, the closed form."""
    identity, title = varying(_IDENTITY, counts)
    fields = [_MODEL, *identity, *FIGURES, Field("Published MACs", _published_macs)]
    if any(count.closed_form_macs is not None for count in counts):
        fields.append(Field("Closed form", _closed_form_macs, optional=True))
    rows = tuple(count.as_row() for count in counts)
    return Document("flops", rows, (build(title, fields, counts),), tuple(_notes(counts)))


def parts_document(counted: Sequence[tuple[Count, Sequence[Count]]], by: str) -> Document:
    """Return one table per network: its parts, the share of the MACs of each, and their sum."""
    tables = []
    for total, parts in counted:
        part: Field[Count] = Field(by.capitalize(), lambda c: c.part, numeric=False)
        fields = [part, *(_LAYER if by == "layer" else ()), *FIGURES[:2], _share_of(total), *FIGURES[2:]]
        _, title = varying(_IDENTITY, [total])
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


def _notes(counts: Sequence[Count]) -> list[str]:
    notes = [UNITS]
    if any(count.agrees is not None for count in counts if count.part == TOTAL):
        notes.append("✓ parameters, MACs and activations equal the published integers; ✗ at least one differs.")
    return notes + [f"{count.model}: {count.error}" for count in counts if count.error]

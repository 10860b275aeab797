"""What networks cost: counts beside what is published, and their parts."""

from collections.abc import Sequence

from mpvit.counting.results import TOTAL, Count
from mpvit.tables import Compared, Document, Field, build
from mpvit.units import times

UNITS = "1 MAC (multiply-add) = 2 FLOPs; the paper and fvcore print MACs under the name FLOPs."

_IDENTITY: tuple[Field[Count], ...] = (
    Field("Model", lambda c: c.model, numeric=False),
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


def count_document(counts: Sequence[Count]) -> Document:
    """Return whole-network counts beside what is published and, for the live counters, what the closed form gives."""
    fields = list(_varying(counts)) + list(FIGURES)
    fields.append(Field("Published MACs", _published_macs))
    if any(count.closed_form_macs is not None for count in counts):
        fields.append(Field("Closed form", _closed_form_macs, optional=True))
    table = build(_title(counts), fields, counts)
    return Document("flops", tuple(count.as_row() for count in counts), (table,), tuple(_count_notes(counts)))


def parts_document(counted: Sequence[tuple[Count, Sequence[Count]]], by: str) -> Document:
    """Return one table a network: its parts, each with its share of the MACs, and their sum."""
    tables, results = [], []
    for total, parts in counted:
        fields: list[Field[Count]] = [Field(by.capitalize(), lambda c: c.part, numeric=False)]
        if by == "layer":
            fields += _LAYER
        fields += [*FIGURES[:2], _share_of(total), *FIGURES[2:]]
        tables.append(build(f"{total.label}: {_title([total])}", fields, [*parts, total], footer=True))
        results += [count.as_row() for count in (*parts, total)]
    totals = [total for total, _ in counted]
    return Document("flops", tuple(results), tuple(tables), tuple(_count_notes(totals)))


def _share_of(total: Count) -> Field[Count]:
    whole = total.macs or 1
    return Field("% of MACs", lambda count: f"{100 * (count.macs or 0) / whole:.1f}", optional=True)


_LAYER: tuple[Field[Count], ...] = (
    Field("Kind", lambda c: c.layer.kind if c.layer else "", numeric=False, optional=True),
    Field("Output", lambda c: times(c.layer.output_shape) if c.layer else "", numeric=False, optional=True),
    Field("Calls", lambda c: c.layer.calls if c.layer else "", optional=True),
)


def _varying(counts: Sequence[Count]) -> list[Field[Count]]:
    """Keep the model, and what else differs between the counts; the title says the rest."""
    return [f for f in _IDENTITY if f.header == "Model" or len({f.read(c) for c in counts}) > 1]


def _title(counts: Sequence[Count]) -> str:
    fixed = [f for f in _IDENTITY[1:] if len({f.read(c) for c in counts}) == 1]
    return ", ".join(f"{f.header.lower()} {f.read(counts[0])}" for f in fixed)


def _published_macs(count: Count) -> Compared | None:
    return Compared(count.published.macs, count.agrees) if count.published and count.agrees is not None else None


def _closed_form_macs(count: Count) -> Compared | None:
    same = count.agrees_with_closed_form
    return Compared(count.closed_form_macs, same) if count.closed_form_macs is not None and same is not None else None


def _count_notes(counts: Sequence[Count]) -> list[str]:
    notes = [UNITS]
    if any(count.agrees is not None for count in counts if count.part == TOTAL):
        notes.append("✓ parameters, MACs and activations are the published integers; ✗ one differs.")
    notes += [f"{count.model}: {count.error}" for count in counts if count.error]
    return notes

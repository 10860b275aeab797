"""Results as rows and columns. Cells stay exact; how a kind of cell is written is the renderer's business."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mpvit.results import TOTAL, Count, Prediction
from mpvit.units import grouped, times


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure from elsewhere, and whether the count beside it agrees with all that was said there."""

    value: int
    agrees: bool


Cell = int | float | str | Compared | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its header, whether its cells are numbers (set to the right), and whether a narrow window may do without."""

    header: str
    numeric: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns. A cell None is "not there"; a ``footer`` row sums the others."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[Cell, ...] | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """What a command answers: flat rows for machines, tables for people, notes on both.

    ``device``, ``threads`` and ``dtype`` say where a network ran; a closed-form answer has none.
    """

    command: str
    results: tuple[dict[str, Any], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    device: str | None = None
    threads: int | None = None
    dtype: str | None = None


def cell_text(cell: Cell, separator: str = " ") -> str:
    """Return a cell as text: integers whole and grouped by ``separator``, fractions to 4 digits."""
    if cell is None:
        return "–"
    if isinstance(cell, Compared):
        return grouped(cell.value, separator) + ("✓" if cell.agrees else "✗")
    if isinstance(cell, int):
        return grouped(cell, separator)
    return f"{cell:.4f}" if isinstance(cell, float) else cell


@dataclass(frozen=True, slots=True)
class _Field:
    """A column of counts: what to read off each; left out of a table where every count has the same and a title says it."""

    header: str
    read: Callable[[Count], Cell]
    numeric: bool = True
    optional: bool = False


_IDENTITY = (
    _Field("Model", lambda c: c.model, numeric=False),
    _Field("Input", lambda c: times(c.input_shape), numeric=False),
    _Field("Counter", lambda c: c.counter, numeric=False),
    _Field("Convention", lambda c: c.convention, numeric=False),
)
_FIGURES = (
    _Field("Params", lambda c: c.params),
    _Field("MACs", lambda c: c.macs),
    _Field("FLOPs = 2 MACs", lambda c: c.flops, optional=True),
    _Field("Activations", lambda c: c.activations),
)


def count_document(counts: Sequence[Count]) -> Document:
    """Return whole-network counts beside what is published and, for the live counters, what the closed form gives."""
    fields = list(_varying(counts)) + list(_FIGURES)
    fields.append(_Field("Published MACs", _published_macs))
    if any(count.closed_form_macs is not None for count in counts):
        fields.append(_Field("Closed form", _closed_form_macs, optional=True))
    table = _table(_title(counts), fields, counts)
    return Document("flops", tuple(count.as_row() for count in counts), (table,), tuple(_count_notes(counts)))


def parts_document(counted: Sequence[tuple[Count, Sequence[Count]]], by: str) -> Document:
    """Return one table a network: its parts, each with its share of the MACs, and their sum."""
    tables, results = [], []
    for total, parts in counted:
        fields = [_Field(by.capitalize(), lambda c: c.part, numeric=False)]
        if by == "layer":
            fields += _LAYER
        fields += [*_FIGURES[:2], _share_of(total), *_FIGURES[2:]]
        tables.append(_table(f"{total.model}: {_title([total])}", fields, [*parts, total], footer=True))
        results += [count.as_row() for count in (*parts, total)]
    totals = [total for total, _ in counted]
    return Document("flops", tuple(results), tuple(tables), tuple(_count_notes(totals)))


def _share_of(total: Count) -> _Field:
    whole = total.macs or 1
    return _Field("% of MACs", lambda count: f"{100 * (count.macs or 0) / whole:.1f}")


_LAYER = (
    _Field("Kind", lambda c: c.layer.kind if c.layer else "", numeric=False),
    _Field("Output", lambda c: times(c.layer.output_shape) if c.layer else "", numeric=False),
    _Field("Calls", lambda c: c.layer.calls if c.layer else ""),
)


def prediction_document(predictions: Sequence[Prediction], notes: Sequence[str], *, trained: bool) -> Document:
    """Return the best classes of each image; an image that could not be read has one row with its error."""
    columns = (Column("Image"), Column("Rank", numeric=True), Column("Index", numeric=True), Column("Class"))
    rows: list[tuple[Cell, ...]] = []
    results: list[dict[str, Any]] = []
    for prediction in predictions:
        if prediction.error:
            rows.append((prediction.image, None, None, prediction.error, None))
        for rank, score in enumerate(prediction.classes, 1):
            rows.append((prediction.image, rank, score.index, score.name, score.probability))
        results += _prediction_rows(prediction, trained=trained)
    table = Table("", (*columns, Column("Probability", numeric=True)), tuple(rows))
    return Document("predict", tuple(results), (table,), tuple(notes))


def _prediction_rows(prediction: Prediction, *, trained: bool) -> list[dict[str, Any]]:
    same = {"image": prediction.image, "trained": trained, "error": prediction.error or None}
    if prediction.error:
        return [same | dict.fromkeys(("rank", "class_index", "class_name", "probability"))]
    return [
        same | {"rank": rank, "class_index": s.index, "class_name": s.name, "probability": s.probability}
        for rank, s in enumerate(prediction.classes, 1)
    ]


def _varying(counts: Sequence[Count]) -> list[_Field]:
    """Keep the model, and what else differs between the counts; the title says the rest."""
    return [f for f in _IDENTITY if f.header == "Model" or len({f.read(c) for c in counts}) > 1]


def _title(counts: Sequence[Count]) -> str:
    fixed = [f for f in _IDENTITY[1:] if len({f.read(c) for c in counts}) == 1]
    return ", ".join(f"{f.header.lower()} {f.read(counts[0])}" for f in fixed)


def _table(title: str, fields: Sequence[_Field], counts: Sequence[Count], *, footer: bool = False) -> Table:
    columns = tuple(Column(f.header, f.numeric, f.optional) for f in fields)
    rows = tuple(tuple(f.read(count) for f in fields) for count in counts)
    return Table(title, columns, rows[:-1], rows[-1]) if footer else Table(title, columns, rows)


def _published_macs(count: Count) -> Compared | None:
    return Compared(count.published.macs, count.agrees) if count.published and count.agrees is not None else None


def _closed_form_macs(count: Count) -> Compared | None:
    same = count.agrees_with_closed_form
    return Compared(count.closed_form_macs, same) if count.closed_form_macs is not None and same is not None else None


def _count_notes(counts: Sequence[Count]) -> list[str]:
    notes = ["1 MAC (multiply-add) = 2 FLOPs; the paper and fvcore print MACs under the name FLOPs."]
    if any(count.agrees is not None for count in counts if count.part == TOTAL):
        notes.append("✓ parameters, MACs and activations are the published integers; ✗ one differs.")
    notes += [f"{count.model}: {count.error}" for count in counts if count.error]
    return notes

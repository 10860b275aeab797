"""Results as rows and columns, one file a study. Cells stay exact; how a cell is written is the renderer's business."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mpvit.units import grouped


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure from elsewhere, and whether the count beside it agrees with all that was said there."""

    value: int
    agrees: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """A node of a tree: its path, and for a terminal the lines that lead to it and its name below its parent."""

    path: str
    guide: str
    name: str


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, in [0, 1]; on a terminal with a bar."""

    value: float


Cell = int | float | str | Compared | Branch | Share | None


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
    """Return a cell as text: integers whole and grouped by ``separator``, fractions to 4 digits, shares in percent."""
    if cell is None:
        return "–"
    if isinstance(cell, Branch):
        return cell.path
    if isinstance(cell, Share):
        return f"{100 * cell.value:.1f}"
    if isinstance(cell, Compared):
        return grouped(cell.value, separator) + ("✓" if cell.agrees else "✗")
    if isinstance(cell, int):
        return grouped(cell, separator)
    return f"{cell:.4f}" if isinstance(cell, float) else cell


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Field(Generic[Result]):
    """A column of results: its header, what to read off each, and how ``Column`` takes it."""

    header: str
    read: Callable[[Result], Cell]
    numeric: bool = True
    optional: bool = False


def build(title: str, fields: Sequence[Field[Result]], results: Sequence[Result], *, footer: bool = False) -> Table:
    """Return one row a result under one column a field; with ``footer`` the last result sums the others."""
    columns = tuple(Column(f.header, f.numeric, f.optional) for f in fields)
    rows = tuple(tuple(f.read(result) for f in fields) for result in results)
    return Table(title, columns, rows[:-1], rows[-1]) if footer else Table(title, columns, rows)

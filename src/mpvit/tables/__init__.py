"""Results as tables, one file per study. A cell keeps its exact value; each format decides how to write it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mpvit.units import grouped


@dataclass(frozen=True, slots=True)
class MarkedCell:
    """A cell that is more than a number or a text: a terminal and the report draw it in their own ways."""


@dataclass(frozen=True, slots=True)
class Compared(MarkedCell):
    """A figure from another source, and whether the count in the same row agrees with all figures of that source."""

    value: int
    agrees: bool


@dataclass(frozen=True, slots=True)
class Branch(MarkedCell):
    """A node of a tree: its path, the lines that lead to it on a terminal, and its name below its parent."""

    path: str
    guide: str
    name: str


@dataclass(frozen=True, slots=True)
class Share(MarkedCell):
    """A part of a whole, in [0, 1]; a terminal adds a bar."""

    value: float


@dataclass(frozen=True, slots=True)
class Rounded(MarkedCell):
    """A figure that the first screen of the report rounds; every other place shows it in full."""

    short: str
    exact: str


@dataclass(frozen=True, slots=True)
class Label(MarkedCell):
    """The name of a row, and a hint that explains it."""

    name: str
    hint: str


Cell = int | float | str | MarkedCell | None


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its header, whether its cells are numbers (aligned right), and whether a narrow window may leave it out."""

    header: str
    numeric: bool = False
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns. None is an absent value; ``footer`` is a row that sums the others."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    footer: tuple[Cell, ...] | None = None

    @property
    def all_rows(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows, then the footer."""
        return self.rows if self.footer is None else (*self.rows, self.footer)


@dataclass(frozen=True, slots=True)
class Document:
    """The answer of a command: flat rows for programs, tables for people, notes on both.

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
    """Return a cell as text: integers whole and grouped by ``separator``, fractions with 4 digits, shares in percent."""
    match cell:
        case None:
            text = "–"
        case int():
            text = grouped(cell, separator)
        case float():
            text = f"{cell:.4f}"
        case Compared():
            text = grouped(cell.value, separator) + ("✓" if cell.agrees else "✗")
        case Branch():
            text = cell.path
        case Share():
            text = f"{100 * cell.value:.1f}"
        case Rounded():
            text = cell.exact
        case Label():
            text = f"{cell.name} ({cell.hint})" if cell.hint else cell.name
        case _:
            text = str(cell)
    return text


Result = TypeVar("Result")
Value = TypeVar("Value")


def known(value: Value | None, read: Callable[[Value], Cell]) -> Cell:
    """Return what ``read`` makes of a value; None for None."""
    return None if value is None else read(value)


@dataclass(frozen=True, slots=True)
class Field(Generic[Result]):
    """A column of results: a ``Column``, and how its cell is read from one result."""

    header: str
    read: Callable[[Result], Cell]
    numeric: bool = True
    optional: bool = False


def build(title: str, fields: Sequence[Field[Result]], results: Sequence[Result], *, footer: bool = False) -> Table:
    """Return a table with one row per result and one column per field; with ``footer`` the last result sums the others."""
    columns = tuple(Column(f.header, f.numeric, f.optional) for f in fields)
    rows = tuple(tuple(f.read(result) for f in fields) for result in results)
    return Table(title, columns, rows[:-1], rows[-1]) if footer else Table(title, columns, rows)


def varying(fields: Sequence[Field[Result]], results: Sequence[Result]) -> tuple[list[Field[Result]], str]:
    """Return the fields that differ between the results, and a title with the values of the others."""
    differing = [f for f in fields if len({f.read(result) for result in results}) > 1]
    fixed = [f for f in fields if f not in differing and f.read(results[0]) is not None]
    return differing, ", ".join(f"{f.header.lower()} {f.read(results[0])}" for f in fixed)

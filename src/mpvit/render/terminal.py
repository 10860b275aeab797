"""Tables for a terminal, by rich, as wide as its window or, where there is none, as they need.

Nothing is cut: a window that is too narrow does without optional columns, by name, and folds text that is still too long.
Where even that does not fit, each row becomes a block with one field a line.
"""

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from mpvit.tables import Cell, Compared, Document, Table, cell_text

_GAP = 2
"""Blanks between columns: one of padding, one that the box draws."""

_FOLDED = 12
"""The least width in characters that a name is folded to; in a narrower column nobody can read it."""


def render(document: Document, width: int | None = None) -> list[RichTable | Text]:
    """Return titles and tables in order, for a window of ``width`` characters; None has no limit."""
    parts: list[RichTable | Text] = []
    for number, table in enumerate(document.tables):
        kept, dropped = _fitting(table, width)
        parts += [Text()] if number else []
        parts += [Text(table.title, style="italic")] if table.title else []
        widths = _widths(table, kept, width)
        parts.append(_grid(table, widths) if width is None or _total(widths.values()) <= width else _blocks(table, kept))
        if dropped:
            parts.append(Text(f"not shown in {width} columns: {', '.join(dropped)}", style="dim italic"))
    return parts


def _grid(table: Table, widths: Mapping[int, int]) -> RichTable:
    rich = RichTable(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        show_footer=table.footer is not None,
    )
    for index, width in widths.items():
        column = table.columns[index]
        rich.add_column(
            Text(column.header),
            Text(cell_text(table.footer[index])) if table.footer else "",
            justify="right" if column.numeric else "left",
            overflow="fold",
            width=width,
        )
    for row in table.rows:
        rich.add_row(*(_text(row[index]) for index in widths))
    return rich


def _blocks(table: Table, kept: Sequence[int]) -> RichTable:
    rich = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, show_header=False)
    rich.add_column(style="bold", overflow="fold")
    rich.add_column(overflow="fold")
    for row in (*table.rows, *([table.footer] if table.footer else [])):
        for index in kept:
            rich.add_row(Text(table.columns[index].header), _text(row[index]), end_section=index == kept[-1])
    return rich


def _fitting(table: Table, width: int | None) -> tuple[list[int], list[str]]:
    """Return the columns that fit and the headers of those that had to go, the widest optional one first."""
    widths = [_width(table, index) for index in range(len(table.columns))]
    kept = list(range(len(widths)))
    for index in sorted(kept, key=lambda i: -widths[i]):
        if width is None or _total([widths[i] for i in kept]) <= width:
            break
        if table.columns[index].optional:
            kept.remove(index)
    return kept, [column.header for index, column in enumerate(table.columns) if index not in kept]


def _widths(table: Table, kept: Sequence[int], window: int | None) -> dict[int, int]:
    """Return each kept column's width: what it needs, the most foldable ones narrower until all fit or none can fold."""
    widths = {index: _width(table, index) for index in kept}
    least = {index: _least_width(table, index) for index in kept}
    while window is not None and _total(widths.values()) > window:
        widest = max(kept, key=lambda index: widths[index] - least[index])
        if widths[widest] == least[widest]:
            break
        widths[widest] -= 1
    return widths


def _least_width(table: Table, index: int) -> int:
    """Return how narrow a column may be: its header and names go over several lines, numbers never."""
    column = table.columns[index]
    if not column.numeric:
        return min(_width(table, index), _FOLDED)
    return max(cell_len(text) for text in (*column.header.split(), *_cells(table, index)))


def _width(table: Table, index: int) -> int:
    return max(cell_len(text) for text in (table.columns[index].header, *_cells(table, index)))


def _cells(table: Table, index: int) -> list[str]:
    return [cell_text(row[index]) for row in (*table.rows, *([table.footer] if table.footer else []))]


def _total(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def _text(cell: Cell) -> Text:
    style = ("green" if cell.agrees else "bold red") if isinstance(cell, Compared) else ""
    return Text(cell_text(cell), style=style)

"""Tables for a terminal, by rich, as wide as its window or, where there is none, as they need.

Nothing is cut: a window that is too narrow does without optional columns, by name, and folds what is still too long.
"""

from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from mpvit.tables import Cell, Column, Compared, Document, Table, cell_text

_GAP = 2
"""Blanks between columns: one of padding, one that the box draws."""


def render(document: Document, width: int | None = None) -> list[RichTable]:
    """Return one rich table for each of the document's, for a window of ``width`` characters; None has no limit."""
    return [_rich(table, width) for table in document.tables]


def _rich(table: Table, width: int | None) -> RichTable:
    kept, dropped = _fitting(table, width)
    rich = RichTable(
        title=table.title or None,
        title_justify="left",
        title_style="italic",
        caption=f"not shown in {width} columns: {', '.join(dropped)}" if dropped else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
        show_footer=table.footer is not None,
    )
    for index in kept:
        column = table.columns[index]
        rich.add_column(
            Text(column.header),
            Text(cell_text(table.footer[index])) if table.footer else "",
            justify="right" if column.numeric else "left",
            overflow="fold",
            no_wrap=column.numeric,
        )
    for row in table.rows:
        rich.add_row(*(_text(row[index]) for index in kept))
    return rich


def _fitting(table: Table, width: int | None) -> tuple[list[int], list[str]]:
    """Return the columns that fit and the headers of those that had to go, the rightmost optional one first."""
    widths = [_width(table, index, column) for index, column in enumerate(table.columns)]
    kept = list(range(len(widths)))
    dropped: list[str] = []
    for index in reversed(kept[:]):
        if width is None or sum(widths[i] for i in kept) + _GAP * (len(kept) - 1) <= width:
            break
        if table.columns[index].optional:
            kept.remove(index)
            dropped.insert(0, table.columns[index].header)
    return kept, dropped


def _width(table: Table, index: int, column: Column) -> int:
    cells = [row[index] for row in (*table.rows, *([table.footer] if table.footer else []))]
    return max([len(column.header), *(len(cell_text(cell)) for cell in cells)])


def _text(cell: Cell) -> Text:
    style = ("green" if cell.agrees else "bold red") if isinstance(cell, Compared) else ""
    return Text(cell_text(cell), style=style)

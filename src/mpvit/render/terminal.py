"""Tables for a terminal, drawn by rich: as wide as the window or, where there is none, as they need.

Nothing is cut. In a narrow window, optional columns are left out and named below, and long texts are folded. If even that does
not fit, each row becomes a block with one field per line. Only windows show trees and bars.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table as RichTable
from rich.text import Text

from mpvit.tables import Branch, Cell, Compared, Document, Share, Table, cell_text

_FRAME: dict[str, Any] = {"box": box.SIMPLE_HEAD, "padding": (0, 1, 0, 0), "pad_edge": False, "show_edge": False}

_GAP = 2
"""Blanks between columns: one of padding, one that the box draws."""

_NARROWEST_NAME = 12
"""Smallest width of a folded column of names, in characters."""

_BAR = 10
"""Width of a full bar, in characters."""

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def render(document: Document, width: int | None = None) -> list[RichTable | Text]:
    """Return titles and tables in order, for a window of ``width`` characters; None for no limit."""
    parts: list[RichTable | Text] = []
    for number, table in enumerate(document.tables if width else map(_flat, document.tables)):
        kept, dropped = _fitting(table, width)
        parts += [Text()] if number else []
        parts += [Text(table.title, style="italic")] if table.title else []
        widths = _widths(table, kept, width)
        parts.append(_grid(table, widths) if width is None or _total(widths.values()) <= width else _blocks(_flat(table), kept))
        if dropped:
            parts.append(Text(f"not shown in {width} columns: {', '.join(dropped)}", style="dim italic"))
    return parts


def _grid(table: Table, widths: Mapping[int, int]) -> RichTable:
    rich = RichTable(show_footer=table.footer is not None, **_FRAME)
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
        rich.add_row(*(_text(row[index], width) for index, width in widths.items()))
    return rich


def _blocks(table: Table, kept: Sequence[int]) -> RichTable:
    rich = RichTable(show_header=False, **_FRAME)
    rich.add_column(style="bold", overflow="fold")
    rich.add_column(overflow="fold")
    for row in table.all_rows:
        for index in kept:
            rich.add_row(Text(table.columns[index].header), _text(row[index]), end_section=index == kept[-1])
    return rich


def _flat(table: Table) -> Table:
    """Return the table without trees and bars."""
    return replace(
        table, rows=tuple(tuple(cell_text(c) if isinstance(c, Branch | Share) else c for c in row) for row in table.rows)
    )


def _fitting(table: Table, width: int | None) -> tuple[list[int], list[str]]:
    """Return the columns that fit, and the headers of those left out: optional ones, the widest first."""
    widths = [_width(table, index) for index in range(len(table.columns))]
    kept = list(range(len(widths)))
    for index in sorted(kept, key=lambda i: -widths[i]):
        if width is None or _total([widths[i] for i in kept]) <= width:
            break
        if table.columns[index].optional:
            kept.remove(index)
    return kept, [column.header for index, column in enumerate(table.columns) if index not in kept]


def _widths(table: Table, kept: Sequence[int], window: int | None) -> dict[int, int]:
    """Return the width of each kept column: what it needs, or less, until all fit or no column can be folded more."""
    widths = {index: _width(table, index) for index in kept}
    least = {index: _least_width(table, index) for index in kept}
    while window is not None and _total(widths.values()) > window:
        widest = max(kept, key=lambda index: widths[index] - least[index])
        if widths[widest] == least[widest]:
            break
        widths[widest] -= 1
    return widths


def _width(table: Table, index: int) -> int:
    return max(cell_len(table.columns[index].header), *(_needed(row[index]) for row in table.all_rows))


def _least_width(table: Table, index: int) -> int:
    """Return the smallest width of a column: headers and names may be folded, numbers and branches may not."""
    column, cells = table.columns[index], [row[index] for row in table.all_rows]
    if not column.numeric:
        branches = [_needed(cell) for cell in cells if isinstance(cell, Branch) and cell.guide]
        return min(_width(table, index), max([_NARROWEST_NAME, *branches]))
    return max(cell_len(text) for text in (*column.header.split(), *map(cell_text, cells)))


def _needed(cell: Cell) -> int:
    """Return the number of characters that a cell takes in a window."""
    return cell_len(_text(cell, len(cell_text(cell)) + 1 + _BAR).plain)


def _total(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


def _text(cell: Cell, width: int = 0) -> Text:
    """Return a cell as a window shows it; a bar fills what its number leaves of ``width``."""
    if isinstance(cell, Branch):
        return Text.assemble((cell.guide, "dim"), cell.name)
    if isinstance(cell, Share):
        number = cell_text(cell).rjust(len(cell_text(Share(1))))
        return Text.assemble((_bar(cell.value, width - len(number) - 1), "cyan"), number)
    style = ("green" if cell.agrees else "bold red") if isinstance(cell, Compared) else ""
    return Text(cell_text(cell), style=style)


def _bar(share: float, width: int) -> str:
    """Return a bar for ``share`` of ``width`` characters, and a blank; any share above 0 is visible."""
    if width < 1:
        return ""
    whole, eighths = divmod(max(round(8 * width * share), int(share > 0)), 8)
    return f"{_EIGHTHS[8] * whole}{_EIGHTHS[eighths].strip()}".ljust(width + 1)

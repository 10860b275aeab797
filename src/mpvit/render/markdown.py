"""Markdown tables (GitHub's dialect)."""

from collections.abc import Sequence

from mpvit.tables import Cell, Document, Table, cell_text


def render(document: Document) -> str:
    """Return each table after its title, then the notes."""
    return "\n\n".join([*map(render_table, document.tables), *document.notes]) + "\n"


def render_table(table: Table) -> str:
    """Return a table after its title."""
    rule = ["---:" if column.numeric else ":---" for column in table.columns]
    lines = [_line([column.header for column in table.columns]), _line(rule), *map(_line, table.all_rows)]
    return "\n".join([f"{table.title}\n", *lines] if table.title else lines)


def _line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(cell_text(cell).replace("\n", " ").replace("|", r"\|") for cell in cells) + " |"

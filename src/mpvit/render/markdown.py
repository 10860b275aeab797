"""Markdown tables (GitHub's dialect)."""

from collections.abc import Sequence

from mpvit.tables import Cell, Document, Table, cell_text


def render(document: Document) -> str:
    """Return each table behind its title, then the notes."""
    blocks = [_table(table) for table in document.tables]
    blocks += [f"{note}" for note in document.notes]
    return "\n\n".join(blocks) + "\n"


def _table(table: Table) -> str:
    rule = ["---:" if column.numeric else ":---" for column in table.columns]
    rows = [*table.rows, *([table.footer] if table.footer else [])]
    lines = [_line([column.header for column in table.columns]), _line(rule), *(_line(row) for row in rows)]
    return "\n".join([f"{table.title}\n", *lines] if table.title else lines)


def _line(cells: Sequence[Cell]) -> str:
    return "| " + " | ".join(cell_text(cell).replace("\n", " ").replace("|", r"\|") for cell in cells) + " |"

"""LaTeX tables for a paper, with the rules of booktabs."""

import re
from collections.abc import Sequence

from mpvit.tables import Branch, Cell, Document, Table, cell_text

_MARKS = {"✓": r"$\checkmark$", "✗": r"$\times$", "–": "--"}
_SPECIAL = {
    **_MARKS,
    "\\": r"\textbackslash{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "÷": r"$\div$",
    "·": r"$\cdot$",
    "²": "$^2$",
    "−": "$-$",
    "≤": r"$\leq$",
    "Δ": r"$\Delta$",
}

_GROUPS = re.compile(r"(?<=[0-9]) (?=[0-9]{3}(?![0-9]))")
"""Spaces between the groups of digits of a number."""


def render(document: Document) -> str:
    """Return each table as a tabular (needs the packages booktabs and amssymb), titles and notes as comments."""
    blocks = [_table(table) for table in document.tables]
    return "\n\n".join([*blocks, "\n".join(f"% {note}" for note in document.notes)]) + "\n"


def _table(table: Table) -> str:
    alignment = "".join("r" if column.numeric else "l" for column in table.columns)
    body = [_line(row) for row in table.rows]
    if table.footer:
        body += [r"  \midrule", _line(table.footer)]
    header = _line([column.header for column in table.columns])
    lines = [rf"\begin{{tabular}}{{{alignment}}}", r"  \toprule", header, r"  \midrule", *body, r"  \bottomrule"]
    lines.append(r"\end{tabular}")
    return "\n".join([f"% {table.title}", *lines] if table.title else lines)


def _line(cells: Sequence[Cell]) -> str:
    return "  " + " & ".join(_cell(cell) for cell in cells) + r" \\"


def _cell(cell: Cell) -> str:
    if isinstance(cell, str | Branch):
        return _GROUPS.sub(r"\\,", "".join(_SPECIAL.get(sign, sign) for sign in cell_text(cell)))
    return "".join(_MARKS.get(sign, sign) for sign in cell_text(cell, r"\,"))

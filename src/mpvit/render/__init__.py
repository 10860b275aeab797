"""Documents as text: one file per format, each with ``render(document) -> str``.

``table`` returns rich's tables for a terminal instead: only the caller knows the width of its window.
"""

from mpvit.errors import unknown_name
from mpvit.imports import resolve
from mpvit.tables import Document

FORMATS = {
    "table": "mpvit.render.terminal:render",
    "json": "mpvit.render.json:render",
    "csv": "mpvit.render.csv:render",
    "markdown": "mpvit.render.markdown:render",
    "latex": "mpvit.render.latex:render",
}

SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".tex": "latex"}
"""Format of a file by its suffix."""


def render(document: Document, form: str) -> str:
    """Return ``document`` as text in any format but ``table``; raise ``UsageError`` for an unknown format."""
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    text: str = resolve(FORMATS[form])(document)
    return text

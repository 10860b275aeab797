"""Documents as text: one file a format, each with ``render(document) -> str``.

``table``, for a terminal, gives rich's tables instead of text: only the caller knows how wide its window is.
"""

from mpvit.errors import unknown_name
from mpvit.registry import resolve
from mpvit.tables import Document

FORMATS = {
    "table": "mpvit.render.terminal:render",
    "json": "mpvit.render.json:render",
    "csv": "mpvit.render.csv:render",
    "markdown": "mpvit.render.markdown:render",
    "latex": "mpvit.render.latex:render",
}

SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".tex": "latex"}
"""The format that a file's name asks for."""


def render(document: Document, form: str) -> str:
    """Return ``document`` as text in a format other than ``table``; raise ``UsageError`` for an unknown one."""
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    text: str = resolve(FORMATS[form])(document)
    return text

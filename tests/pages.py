"""The project's pages as a program that shows Markdown sees them: blocks of code, headings and links."""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
EVERY = [README, CONTRIBUTING, ROOT / "CHANGELOG.md", *DOCS, *sorted((ROOT / "reports").rglob("*.md"))]


class Block(NamedTuple):
    """A block of code: the word behind its fence, what stands in it, and its first line's number in the page."""

    language: str
    text: str
    line: int


def named(path: Path) -> str:
    """Return the page's path in the project."""
    return str(path.relative_to(ROOT))


def _tokens(path: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))


def blocks(path: Path) -> list[Block]:
    """Return a page's blocks of code in order."""
    fences = [token for token in _tokens(path) if token.type in {"fence", "code_block"}]
    return [Block(token.info, token.content, token.map[0] + 2) for token in fences if token.map]


def links(path: Path) -> Iterator[str]:
    """Yield where a page's links and pictures lead."""
    for token in _tokens(path):
        for part in token.children or ():
            if part.type in {"link_open", "image"}:
                yield str(part.attrs["href" if part.type == "link_open" else "src"])


def anchors(path: Path) -> set[str]:
    """Return the names by which a page's headings are linked to, as GitHub makes them."""
    tokens = _tokens(path)
    headings = [after for token, after in pairwise(tokens) if token.type == "heading_open"]
    texts = ["".join(part.content for part in heading.children or ()) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}

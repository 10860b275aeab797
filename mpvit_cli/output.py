"""The only place that prints: data to stdout or a file, everything else to stderr."""

import contextlib
import io
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from mpvit.errors import MpvitError
from mpvit.files import write_atomically
from mpvit.render import SUFFIXES, render
from mpvit.tables import Document

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Item = TypeVar("Item")

_ASCII = str.maketrans(
    {"─": "-", "│": "|", "├": "|", "└": "`", "✓": "*", "✗": "!", "×": "x", "–": "-", "…": "...", "·": "."}
    | dict.fromkeys("█▉▊▋▌", "#")
    | dict.fromkeys("▍▎▏", ".")
)
"""ASCII replacements of the signs in tables, for a terminal that cannot show them."""

_UNBOUNDED = 100_000
"""Width of tables that are piped, in characters: they are never folded or cut."""

_USUAL_WIDTH = 80
"""Width of a terminal that does not report its own, in characters."""


@dataclass(slots=True)
class Terminal:
    """Standard output and standard error, with the global options that apply to them."""

    quiet: bool = False
    verbose: bool = False
    color: bool = True
    progress: bool = True
    said: set[str] = field(default_factory=set)

    def show(self, document: Document, form: str | None, path: Path | None = None) -> None:
        """Print ``document``, or write it to ``path`` completely or not at all; the format defaults to that of the suffix."""
        form = form or SUFFIXES.get(path.suffix if path else "", "table")
        if path:
            text = _tables(document, terminal=False, color=False) if form == "table" else render(document, form)
            write_atomically(path, text.encode())
            self.note(f"wrote {path}")
        elif form == "table":
            _write(sys.stdout, _tables(document, terminal=sys.stdout.isatty(), color=self.color))
        else:
            _write(sys.stdout, render(document, form))
        if form in ("table", "csv"):
            for note in document.notes:
                self.note(note)

    def save(self, figure: "Figure", path: Path) -> None:
        """Write a figure to ``path``, completely or not at all."""
        from mpvit.plots import save_figure

        save_figure(figure, path)
        self.note(f"wrote {path}")

    def note(self, text: str) -> None:
        """Print a note to standard error, each only once, unless ``quiet``."""
        if not self.quiet and text not in self.said:
            self.said.add(text)
            _write(sys.stderr, f"{_folded(text) if sys.stderr.isatty() else text}\n")

    def detail(self, text: str) -> None:
        """Print a note if ``verbose``."""
        if self.verbose:
            self.note(" ".join(text.split()))

    def error(self, message: str, hint: str = "") -> None:
        """Print an error in one line and its hint in another; if ``verbose``, the traceback too."""
        if self.verbose and sys.exc_info()[0]:
            _write(sys.stderr, traceback.format_exc())
        _write(sys.stderr, f"Error: {' '.join(message.split())}\n")
        if hint:
            _write(sys.stderr, f"Hint: {' '.join(hint.split())}\n")

    def track(self, items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
        """Yield the items; on a terminal show a progress bar that disappears at the end."""
        if self.quiet or not self.progress or not sys.stderr.isatty():
            yield from items
            return
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True, no_color=not self.color or None)
        yield from track(items, what, total, console=console, transient=True)

    @contextlib.contextmanager
    def bar(self) -> Iterator[Callable[[str, float], None]]:
        """Yield a function of a text and the share that is done, which updates a progress bar that disappears at the end."""
        if self.quiet or not self.progress or not sys.stderr.isatty():
            yield lambda _text, _share: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(compact=True))
        with Progress(*columns, console=Console(stderr=True, no_color=not self.color or None), transient=True) as progress:
            task = progress.add_task("", total=1.0)
            yield lambda text, share: progress.update(task, description=text, completed=share)

    def collect(self, items: Iterable[Item], what: str, total: int, *, into: list[Item]) -> bool:
        """Append the items to ``into``; return whether Ctrl-C interrupted it after the first item. The list keeps the items."""
        try:
            into.extend(self.track(items, what, total))
        except KeyboardInterrupt:
            if not into:
                raise
            return True
        return False


def _tables(document: Document, *, terminal: bool, color: bool) -> str:
    """Return the tables of a document as text: as wide as the terminal, or as wide as they need without one."""
    from rich.console import Console

    from mpvit.render.terminal import render as render_tables

    text = io.StringIO()
    width = None if terminal else _UNBOUNDED
    console = Console(file=text, width=width, force_terminal=terminal, no_color=not color or None, highlight=False)
    for part in render_tables(document, console.width if terminal else None):
        console.print(part)
    return "".join(line.rstrip() + "\n" for line in text.getvalue().splitlines())


def _folded(text: str) -> str:
    """Return the text in lines of the width of the terminal; a longer word, such as a path, is not broken."""
    width = os.get_terminal_size(sys.stderr.fileno()).columns or _USUAL_WIDTH
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def _write(stream: TextIO, text: str) -> None:
    """Write text, in ASCII if the stream requires it; a closed pipe and a failing standard error raise nothing."""
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        text = text.translate(_ASCII).encode("ascii", "backslashreplace").decode()
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        discard(stream)
        if stream is sys.stdout and not isinstance(error, BrokenPipeError):
            raise MpvitError(f"cannot write to standard output: {error.strerror}") from None


def discard(stream: TextIO) -> None:
    """Redirect ``stream`` to the null device, so that flushing it at exit cannot fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

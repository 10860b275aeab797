"""Options of the answer: its format, its file and a figure."""

from pathlib import Path
from typing import Annotated, Any

from mpvit.errors import UsageError, unknown_name
from mpvit.imports import resolve
from mpvit.render import FORMATS
from mpvit.tables import Document
from mpvit_cli.options import Options, option
from mpvit_cli.output import Terminal

PLOTS = (".svg", ".png", ".pdf")


class Format(Options):
    """The format of the answer on standard output."""

    form: Annotated[
        str | None,
        option(
            "Format of the answer.", "--format", choices=FORMATS, env="MPVIT_FORMAT", default="by the suffix of -o, else table"
        ),
    ] = None

    def check(self) -> None:
        """Raise ``UsageError`` for an unknown format, or for a figure in a format that is not supported."""
        if self.form is not None and self.form not in FORMATS:
            raise unknown_name("format", self.form, FORMATS)
        plot: Path | None = getattr(self, "plot", None)
        if plot is not None and plot.suffix.lower() not in PLOTS:
            raise UsageError(f"--plot {str(plot)!r}: must end in {', '.join(PLOTS)}")

    def show(self, terminal: Terminal, document: Document) -> None:
        """Print the document, or write it to the output file."""
        terminal.show(document, self.form, getattr(self, "output", None))


class Answer(Format):
    """The format of the answer and the file that it is written to."""

    output: Annotated[
        Path | None,
        option(
            "File for the answer instead of standard output; it is written completely or not at all.",
            "--output",
            "-o",
            metavar="FILE",
        ),
    ] = None


class Plot(Options):
    """A figure."""

    plot: Annotated[Path | None, option("File for a figure: .svg, .png or .pdf.", metavar="FILE")] = None

    def draw(self, terminal: Terminal, figure: str, *arguments: Any) -> None:  # noqa: ANN401 - those of the figure
        """Write the figure, a function "module:name" of these arguments, if one is asked for."""
        if self.plot:
            terminal.save(resolve(figure)(*arguments), self.plot)


class PlottedAnswer(Plot, Answer):
    """The answer, and a figure of it."""

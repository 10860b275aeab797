"""How the answer is written, and where."""

from pathlib import Path
from typing import Annotated

import typer

from mpvit.errors import UsageError
from mpvit.render import FORMATS
from mpvit_cli.options.reading import complete

PLOTS = (".svg", ".png", ".pdf")

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="|".join(FORMATS),
        help="How to write the answer. (default: by the suffix of -o, else table)",
        autocompletion=complete(FORMATS),
        envvar="MPVIT_FORMAT",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write there, whole or not at all.", show_default=False),
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="FILE", help="Write a figure: .svg, .png or .pdf.", show_default=False),
]


def check_plot(path: Path | None) -> None:
    """Raise ``UsageError`` for a file that no figure is written to, before any work is done for it."""
    if path is not None and path.suffix.lower() not in PLOTS:
        raise UsageError(f"--plot {str(path)!r}: must end in {', '.join(PLOTS)}")

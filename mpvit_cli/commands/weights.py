"""``mpvit weights``: what a weights file is, whether it fits, and the same weights in the other layout."""

from pathlib import Path
from typing import Annotated

import typer

from mpvit.errors import CheckError, UsageError, unknown_name
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A safetensors file of this project, a published checkpoint, or a file of export."),
]
Variant = Annotated[str | None, options.variant("what the file says, else any", "Hold it against this network", variable=None)]
To = Annotated[
    str | None,
    typer.Option(metavar="project|published", help="Whose layout. (default: the other one)", show_default=False),
]
Target = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where the converted weights go.", show_default=False),
]


def inspect(
    ctx: typer.Context,
    file: File,
    variant: Variant = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Say what a file is: layout, network, classes, preprocessing, what it was trained on and how well it does.

    Examples:
      mpvit weights inspect run/weights.safetensors

      mpvit weights inspect mpvit_tiny.pth --format json
    """
    from mpvit.prediction import inspection
    from mpvit.tables.weights import weights_document

    terminal: Terminal = ctx.obj
    check_format(form)
    terminal.show(weights_document([inspection.inspect(file, variant)]), form, output)


def verify(ctx: typer.Context, file: File, variant: Variant = None, form: options.Format = None) -> None:
    """Check that every tensor of a file is there and fits its network; exit code 3 and what does not where one fails.

    Examples:
      mpvit weights verify run/weights.safetensors

      mpvit weights verify mpvit_tiny.pth --variant tiny
    """
    from mpvit.prediction import inspection
    from mpvit.tables.weights import weights_document

    terminal: Terminal = ctx.obj
    check_format(form)
    found = inspection.inspect(file, variant)
    terminal.show(weights_document([found]), form)
    if found.model is None:
        raise CheckError(found.misfit or f"{file} fits no network", hint="mpvit weights inspect says what the file is")


def convert(ctx: typer.Context, file: File, to: To = None, output: Target = None, variant: Variant = None) -> None:
    """Write the same weights in the other layout: safetensors with all that belongs to them, or a published checkpoint.

    Examples:
      mpvit weights convert mpvit_tiny.pth -o tiny.safetensors

      mpvit weights convert run/weights.safetensors --to published -o tiny.pth
    """
    from mpvit.prediction import inspection
    from mpvit.tables.weights import weights_document

    terminal: Terminal = ctx.obj
    if to is not None and to not in inspection.LAYOUTS:
        raise unknown_name("layout", to, inspection.LAYOUTS)
    if output is None:
        raise UsageError("no file to write to", hint="name one with -o")
    wanted = to
    if wanted is None:
        wanted = "published" if inspection.inspect(file, variant).layout == "project" else "project"
    inspection.convert(file, wanted, output, variant)
    terminal.show(weights_document([inspection.inspect(output, variant)]), None)
    if wanted == "published":
        terminal.note("A published checkpoint has no place for classes, preprocessing and accuracy: they stay behind.")


COMMANDS = {"inspect": inspect, "convert": convert, "verify": verify}
"""The commands of the group, by name."""

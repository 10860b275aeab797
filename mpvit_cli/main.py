"""The application: global options, commands, and errors as exit codes."""

import io
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from mpvit import __version__
from mpvit.errors import MpvitError
from mpvit_cli.commands.bench import bench
from mpvit_cli.commands.compare_attn import compare_attn
from mpvit_cli.commands.flops import flops
from mpvit_cli.commands.predict import predict
from mpvit_cli.output import Terminal, discard

EPILOG = "Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 a check does not hold, 130 interrupted."

app = typer.Typer(
    name="mpvit",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)

COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "flops": (flops, "Count"),
    "compare-attn": (compare_attn, "Count"),
    "bench": (bench, "Measure"),
    "predict": (predict, "Use"),
}
"""Each command and the panel of the help that it stands in."""

for _name, (_command, _panel) in COMMANDS.items():
    app.command(_name, rich_help_panel=_panel, epilog=EPILOG)(_command)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it with the flag
    if wanted:
        typer.echo(f"mpvit {__version__}")
        raise typer.Exit


@app.callback()
def configure(
    ctx: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.", envvar="MPVIT_QUIET")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.", envvar="MPVIT_DEBUG")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Plain text.", envvar="MPVIT_NO_COLOR")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bars.", envvar="MPVIT_NO_PROGRESS")] = False,
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What a Multi-Path Vision Transformer costs: exact to the integer, in milliseconds, every difference explained."""
    terminal: Terminal = ctx.obj
    terminal.quiet, terminal.verbose = quiet, verbose
    terminal.color, terminal.progress = not no_color and not os.environ.get("NO_COLOR"), not no_progress


def main() -> int:
    """Run the command line on ``sys.argv`` and return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the command
            setattr(sys, name, io.StringIO())
    terminal = Terminal(verbose=os.environ.get("MPVIT_DEBUG", "") not in ("", "0"))
    try:
        code = app(obj=terminal, standalone_mode=False)
    except MpvitError as error:
        terminal.error(str(error), error.hint)
        return error.exit_code
    except typer.TyperException as error:
        if message := error.format_message():  # empty where the bare command has just shown its help
            terminal.error(message, f"see mpvit {_asked_command()}--help")
        return error.exit_code
    except OSError as error:  # Typer prints --help and --version; all other files are named where they are opened
        discard(sys.stdout)
        terminal.error(f"cannot write to standard output: {error.strerror}")
        return 1
    except typer.Abort:
        return 1
    return code if isinstance(code, int) else 0


def _asked_command() -> str:
    return next((f"{word} " for word in sys.argv[1:] if word in COMMANDS), "")

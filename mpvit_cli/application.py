"""The Typer application: global options, the commands that are needed, and errors as exit codes."""

import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mpvit import __version__
from mpvit.errors import MpvitError
from mpvit.imports import resolve
from mpvit_cli.options import command
from mpvit_cli.output import Terminal, discard

EPILOG = "Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 a check does not hold, 130 interrupted."


class _Flags:
    """Help without the type of flags: Typer would show ``<bool>`` for each, although flags take no value."""

    def get_params(self, ctx: Any) -> Any:  # noqa: ANN401 - classes of Typer that it does not make public
        """Return the options and arguments of the command, with ``--help``."""
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


class _Command(_Flags, TyperCommand):
    pass


class _Group(_Flags, TyperGroup):
    pass


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it with the flag
    if wanted:
        typer.echo(f"mpvit {__version__}")
        raise typer.Exit


def _forbid_color(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it with the flag
    if wanted:
        os.environ["NO_COLOR"] = "1"  # read by Typer's help


def configure(
    ctx: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes.", envvar="MPVIT_QUIET")] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Print tracebacks, and how the network of --model was made.", envvar="MPVIT_DEBUG"
        ),
    ] = False,
    no_color: Annotated[  # noqa: ARG001 - its callback acts
        bool,
        typer.Option(
            "--no-color", help="Print without colors.", envvar="MPVIT_NO_COLOR", callback=_forbid_color, is_eager=True
        ),
    ] = False,
    no_progress: Annotated[
        bool, typer.Option("--no-progress", help="Show no progress bars.", envvar="MPVIT_NO_PROGRESS")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Count, explain, measure and train Multi-Path Vision Transformers (MPViT) and other networks."""
    terminal: Terminal = ctx.obj
    terminal.quiet, terminal.verbose = quiet, verbose
    terminal.color, terminal.progress = not os.environ.get("NO_COLOR"), not no_progress


def application(commands: Mapping[str, tuple[str, str]]) -> typer.Typer:
    """Return the application with ``commands``: the function "module:name" and the help panel of each, by name."""
    app = typer.Typer(
        name="mpvit",
        cls=_Group,
        callback=configure,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    for name, (function, panel) in commands.items():
        found = resolve(function)
        if isinstance(found, Mapping):
            app.add_typer(_group(found, resolve(function.partition(":")[0] + ":__doc__")), name=name, rich_help_panel=panel)
        else:
            app.command(name, cls=_Command, rich_help_panel=panel, epilog=EPILOG)(command(found))
    return app


def _group(functions: Mapping[str, Callable[..., Any]], text: str) -> typer.Typer:
    """Return a group of commands; its help is the part of ``text`` after the colon."""
    help_text = text.partition(": ")[2]
    group = typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        rich_markup_mode="rich",
        help=help_text[:1].upper() + help_text[1:],
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    for name, function in functions.items():
        group.command(name, cls=_Command, epilog=EPILOG)(command(function))
    return group


def run(commands: Mapping[str, tuple[str, str]]) -> int:
    """Run the command line on ``sys.argv`` and return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, io.StringIO())
    terminal = Terminal(verbose=os.environ.get("MPVIT_DEBUG", "") not in ("", "0"))
    needed = {word: commands[word] for word in sys.argv[1:2] if word in commands}  # only this command is imported
    try:
        code = application(needed or commands)(obj=terminal, standalone_mode=False)
    except MpvitError as error:
        terminal.error(str(error), error.hint)
        return error.exit_code
    except typer.TyperException as error:
        if message := error.format_message():  # empty if the help was printed instead
            command = next((f"{word} " for word in sys.argv[1:] if word in commands), "")
            terminal.error(message, f"see mpvit {command}--help")
        return error.exit_code
    except OSError as error:  # only --help and --version end here: the errors of other files name them
        discard(sys.stdout)
        terminal.error(f"cannot write to standard output: {error.strerror}")
        return 1
    except typer.Abort:
        return 1
    return code if isinstance(code, int) else 0

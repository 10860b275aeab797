"""The application: global options, the commands asked for, and errors as exit codes."""

import io
import os
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mpvit import __version__
from mpvit.errors import MpvitError
from mpvit.registry import resolve
from mpvit_cli.options import command
from mpvit_cli.output import Terminal, discard

EPILOG = "Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 a check does not hold, 130 interrupted."


class _Flags:
    """A command's flags without the type of a value, which they do not take: Typer shows ``<bool>`` beside each."""

    def get_params(self, ctx: Any) -> Any:  # noqa: ANN401 - classes of Typer that it does not make public
        """Return what the command takes, ``--help`` included."""
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
        os.environ["NO_COLOR"] = "1"  # what Typer's help goes by


def configure(
    ctx: typer.Context,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No notes.", envvar="MPVIT_QUIET")] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="Tracebacks, and how a network of --model had to be made.", envvar="MPVIT_DEBUG"),
    ] = False,
    no_color: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--no-color", help="Plain text.", envvar="MPVIT_NO_COLOR", callback=_forbid_color, is_eager=True)
    ] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bars.", envvar="MPVIT_NO_PROGRESS")] = False,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """What a Multi-Path Vision Transformer costs: exact to the integer, in milliseconds, every difference explained."""
    terminal: Terminal = ctx.obj
    terminal.quiet, terminal.verbose = quiet, verbose
    terminal.color, terminal.progress = not os.environ.get("NO_COLOR"), not no_progress


def application(commands: Mapping[str, tuple[str, str]]) -> typer.Typer:
    """Return the application with ``commands``: from a name to its function, "module:function", and its panel of the help."""
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
    """Return several commands under one word, which ``text`` explains behind its colon."""
    said = text.partition(": ")[2]
    group = typer.Typer(
        cls=_Group,
        no_args_is_help=True,
        rich_markup_mode="rich",
        help=said[:1].upper() + said[1:],
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog=EPILOG,
    )
    for name, function in functions.items():
        group.command(name, cls=_Command, epilog=EPILOG)(command(function))
    return group


def run(commands: Mapping[str, tuple[str, str]]) -> int:
    """Run the command line on ``sys.argv`` and return its exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started the command
            setattr(sys, name, io.StringIO())
    terminal = Terminal(verbose=os.environ.get("MPVIT_DEBUG", "") not in ("", "0"))
    asked = {word: commands[word] for word in sys.argv[1:2] if word in commands}  # the others need not be imported
    try:
        code = application(asked or commands)(obj=terminal, standalone_mode=False)
    except MpvitError as error:
        terminal.error(str(error), error.hint)
        return error.exit_code
    except typer.TyperException as error:
        if message := error.format_message():  # empty where the bare command has just shown its help
            command = next((f"{word} " for word in sys.argv[1:] if word in commands), "")
            terminal.error(message, f"see mpvit {command}--help")
        return error.exit_code
    except OSError as error:  # Typer prints --help and --version; all other files are named where they are opened
        discard(sys.stdout)
        terminal.error(f"cannot write to standard output: {error.strerror}")
        return 1
    except typer.Abort:
        return 1
    return code if isinstance(code, int) else 0

"""Any torch network: the options ``--model``, ``--arg`` and ``--input``, next to the networks by name."""

import ast
import glob
from pathlib import Path
from typing import Annotated

from mpvit.user_model import UserModel, load_model, parse_arguments
from mpvit.user_model.inputs import INPUT_DTYPES, parse_inputs
from mpvit_cli.options import conflict, option, requires
from mpvit_cli.options.networks import NetworksAndTasks
from mpvit_cli.output import Terminal

DEFAULT_INPUT = "1x3x224x224"


def complete_model(incomplete: str) -> list[str]:
    """Offer Python files and, after the colon, the classes and functions of a file, without running it."""
    file, colon, name = incomplete.partition(":")
    if not colon:
        found = Path().glob(f"{glob.escape(incomplete)}*")
        return sorted(f"{path}/" if path.is_dir() else f"{path}:" for path in found if path.is_dir() or path.suffix == ".py")
    path = Path(file if file.endswith(".py") else f"{file.replace('.', '/')}.py")
    try:
        body = ast.parse(path.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return []
    names = (each.name for each in body if isinstance(each, ast.ClassDef | ast.FunctionDef))
    return [f"{file}:{each}" for each in names if each.startswith(name) and not each.startswith("_")]


def complete_input(incomplete: str) -> list[str]:
    """Offer dtypes after the colon of a shape."""
    shape, colon, dtype = incomplete.partition(":")
    return [f"{shape}:{each}" for each in INPUT_DTYPES if each.startswith(dtype)] if colon else []


class AnyNetworks(NetworksAndTasks):
    """The networks by name, or one torch network of the user."""

    model: Annotated[
        str | None,
        option(
            "Any torch network instead: a class or function, package.module:name or path/to/file.py:name. "
            "Importing it runs its code.",
            metavar="MODULE:NAME",
            complete=complete_model,
        ),
    ] = None
    argument: Annotated[list[str] | None, option("Argument of --model; repeatable.", "--arg", metavar="NAME=VALUE")] = None
    inputs: Annotated[
        list[str] | None,
        option(
            "Input of --model: 1x3x224x224, 1x128:int64 or, by the name of an argument of its forward, tokens=1x128:int64; "
            "repeatable.",
            "--input",
            metavar="[NAME=]SHAPE[:DTYPE]",
            complete=complete_input,
            default=DEFAULT_INPUT,
        ),
    ] = None

    def check(self) -> None:
        """Raise ``UsageError`` for options of the networks by name with ``--model``, or of ``--model`` without it."""
        for name in _OF_NETWORKS if self.model else ("argument", "inputs"):
            if self.given(name):
                if self.model:
                    raise conflict(self.flag(name), "--model", hint="--input sets the shape, --arg the arguments")
                raise requires(self.flag(name), "--model", hint="--model package.module:name or file.py:name")

    def load(self, terminal: Terminal) -> UserModel:
        """Import the network of ``--model``; ``-v`` prints how it had to be made."""
        inputs = parse_inputs(self.inputs or [DEFAULT_INPUT])
        return load_model(str(self.model), parse_arguments(self.argument or []), inputs, terminal.detail)


_OF_NETWORKS = ("variant", "config", "attention", "task", "classes", "proposals", "detections", "size", "batch")

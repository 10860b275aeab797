"""The options ``--model``, ``--arg`` and ``--input``, and what they ask for."""

import ast
import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from mpvit.errors import UsageError
from mpvit.user_model import UserModel, load_model, parse_arguments
from mpvit.user_model.inputs import INPUT_DTYPES, parse_inputs
from mpvit_cli import options
from mpvit_cli.output import Terminal

DEFAULT_INPUT = "1x3x224x224"


def complete_model(incomplete: str) -> list[str]:
    """Offer Python files and, behind the colon of one, its classes and functions, without running it."""
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
    """Offer dtypes behind the colon of a shape."""
    shape, colon, dtype = incomplete.partition(":")
    return [f"{shape}:{each}" for each in INPUT_DTYPES if each.startswith(dtype)] if colon else []


Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODULE:NAME",
        help="Any torch network instead: a class or function, package.module:name or path/to/file.py:name. "
        "Importing it runs its code.",
        autocompletion=complete_model,
        show_default=False,
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option("--arg", metavar="NAME=VALUE", help="An argument for --model; repeatable.", show_default=False),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="[NAME=]SHAPE[:DTYPE]",
        help="What --model is called on: 1x3x224x224, 1x128:int64 or, by the name of an argument of its forward, "
        f"tokens=1x128:int64; repeatable. (default: {DEFAULT_INPUT})",
        autocompletion=complete_input,
        show_default=False,
    ),
]


def load(target: str, arguments: Sequence[str] | None, inputs: Sequence[str] | None, terminal: Terminal) -> UserModel:
    """Import the user's model; how it had to be made is said with ``-v``."""
    shapes = parse_inputs(inputs or [DEFAULT_INPUT])
    return load_model(target, parse_arguments(arguments or []), shapes, terminal.detail)


def check_model_options(ctx: typer.Context, model: str | None) -> None:
    """Raise ``UsageError`` for an option of the networks by name beside ``--model``, or of ``--model`` without it."""
    for name in _OF_NETWORKS if model else ("argument", "inputs"):
        if options.given(ctx, name):
            option = {"argument": "arg", "inputs": "input"}.get(name, name)
            if model:
                raise UsageError(
                    f"--{option} with --model: must be one of them", hint="--input gives the shape, --arg arguments"
                )
            raise UsageError(f"--{option} without --model: must go with it", hint="--model package.module:name or file.py:name")


_OF_NETWORKS = ("variant", "config", "attention", "task", "classes", "proposals", "detections", "size", "batch")
"""The options of the networks by name."""

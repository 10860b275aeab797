"""The options ``--model``, ``--arg`` and ``--input``, and the traces of what they or the networks' names ask for."""

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from mpvit.errors import UsageError
from mpvit.trace import Trace
from mpvit.trace.closed_form import trace_config
from mpvit.user_model import UserModel, load_model, parse_arguments, parse_input
from mpvit_cli import options

DEFAULT_INPUT = "1x3x224x224"

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODULE:NAME",
        help="Any torch network instead: a class or function, package.module:name. Importing it runs its code.",
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
        metavar="SHAPE[:DTYPE]",
        help=f"What --model is called on, as 1x128:int64; repeatable. (default: {DEFAULT_INPUT})",
        show_default=False,
    ),
]


def trace_networks(
    variants: Sequence[str] | None, configs: Sequence[Path] | None, attention: str | None, size: str, batch: int
) -> dict[str, Trace]:
    """Return the traces of the networks asked for by name, in closed form."""
    networks, pixels = options.parse_models(variants, configs, attention), options.parse_size(size)
    return {name: trace_config(network, batch, *pixels) for name, network in networks.items()}


def load(target: str, arguments: Sequence[str] | None, inputs: Sequence[str] | None) -> UserModel:
    """Import the user's model, whose own words go to stderr."""
    shapes = [parse_input(text) for text in inputs or [DEFAULT_INPUT]]
    with redirect_stdout(sys.stderr):
        return load_model(target, parse_arguments(arguments or []), shapes)


def trace_model(model: UserModel) -> dict[str, Trace]:
    """Return the trace of a user's model by its name."""
    from mpvit.trace.live import trace_user_model

    with redirect_stdout(sys.stderr):
        return {model.name: trace_user_model(model)}


def check_model_options(ctx: typer.Context, model: str | None) -> None:
    """Raise ``UsageError`` for an option of the networks by name beside ``--model``, or of ``--model`` without it."""
    strangers = ("variant", "config", "attention", "size", "batch") if model else ("argument", "inputs")
    for name in strangers:
        if options.given(ctx, name):
            option = {"argument": "arg", "inputs": "input"}.get(name, name)
            if model:
                raise UsageError(
                    f"--{option} with --model: must be one of them", hint="--input gives the shape, --arg arguments"
                )
            raise UsageError(f"--{option} without --model: must go with it", hint="--model package.module:name")

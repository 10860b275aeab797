"""What commands share that train several networks alike: their options, and a study from its beginning to its end."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from mpvit.errors import UsageError
from mpvit.extras import require
from mpvit.tables import Document
from mpvit_cli import options
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.training.data.splits import Data
    from mpvit.training.study import StudyConfig

Of = TypeVar("Of")

FOLDER = "mpvit-study"

Seeds = Annotated[int, typer.Option(parser=options.whole, metavar="N", help="Runs of each network, each from its own seed.")]
Jobs = Annotated[int, typer.Option(parser=options.whole, metavar="N", help="Runs at a time.")]


def train_on(what: str) -> object:
    """Return the option that names the data; ``what`` is trained on it."""
    return typer.Option(
        "--train",
        metavar="DATA",
        help=f"Also train {what} on a folder, digits, scales or hf:FOLDER.",
        show_default=False,
    )


def epochs_of_each(default: str) -> object:
    """Return the option for the epochs of each run; ``default`` says how many there are without it."""
    return typer.Option("--epochs", parser=options.whole, metavar="N", help=f"Of each run. (default: {default})")


def study_folder(otherwise: str) -> object:
    """Return the option for the folder; ``otherwise`` says what is written there without ``--train``."""
    return typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help=f"{otherwise}; with --train the study's folder. (default: {FOLDER})",
        show_default=False,
    )


def require_data(ctx: typer.Context, data: str | None) -> None:
    """Raise ``UsageError`` for options that say how to train where nothing is."""
    if data:
        return
    for name, option in {"seeds": "seeds", "epochs": "epochs", "recipe": "recipe", "setting": "set", "jobs": "jobs"}.items():
        if options.given(ctx, name):
            raise UsageError(f"--{option} without --train: must go with it", hint="--train DATA says what is learned")


def parse_training(
    data: str,
    recipe: str | None,
    epochs: int | None,
    setting: Sequence[str] | None,
    seeds: int,
    jobs: int,
    device: str,
    output: Path | None,
    *,
    size: str | None = None,
    part: int = 1,
) -> "StudyConfig":
    """Return how the networks are trained: where nothing says for how long, for a ``part``-th of the recipe's epochs.

    ``size`` is the side of the images where it is not the recipe's.
    """
    require("accelerate", "kornia", "torchmetrics")
    options.parse_training_device(device)
    from mpvit.training.data import recipe_for
    from mpvit.training.recipe import override
    from mpvit.training.study import StudyConfig, square

    name, usual = recipe_for(data, recipe)
    usual = replace(usual, epochs=max(usual.epochs // part, 1))
    changes = options.parse_settings(setting) | ({"epochs": epochs} if epochs is not None else {})
    if size is not None:
        changes["size"] = square(options.parse_size(size))
    folder = output or Path(FOLDER)
    how = override(usual, changes)
    return StudyConfig(folder=folder, recipe_name=name, recipe=how, seeds=seeds, jobs=jobs, device=device)


def open_study(terminal: Terminal, data: str, threads: int | None) -> "Data":
    """Return the data to train on, without the pictures that cannot be read."""
    import torch

    from mpvit.training.data import open_data
    from mpvit.training.data.damaged import find_damaged

    if threads:
        torch.set_num_threads(threads)
    found = open_data(data)
    found = found.without(find_damaged(found, 0, terminal.track))
    found.require_held_out()
    return found


def learned(terminal: Terminal, training: "StudyConfig", learn: Callable[[Callable[[str, float], None]], Of]) -> Of:
    """Return what ``learn`` comes to, shown as it goes; where somebody ends it, say how the study goes on."""
    try:
        with terminal.bar() as show:
            return learn(show)
    except KeyboardInterrupt:
        terminal.note(f"interrupted: the same command goes on with {training.folder}")
        raise typer.Exit(130) from None


def keep(terminal: Terminal, document: Document, training: "StudyConfig", suffix: str = "") -> None:
    """Write what a study came to into its folder, for people and for machines."""
    for kind in ("json", "md"):
        terminal.show(document, None, training.folder / f"rows{suffix}.{kind}")

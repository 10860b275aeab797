"""Studies that train several networks alike: their options, and a study from its beginning to its end."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from mpvit.imports import require
from mpvit.tables import Document
from mpvit_cli.options import option, requires
from mpvit_cli.options.answer import PlottedAnswer
from mpvit_cli.options.machine import Timing
from mpvit_cli.options.training import RecipeOptions, parse_training_device
from mpvit_cli.options.values import parse_size, whole
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.training.data.splits import Data
    from mpvit.training.study import StudyConfig

Result = TypeVar("Result")

FOLDER = "mpvit-study"


def train_option(what: str) -> Any:  # noqa: ANN401 - what Typer returns
    """Return the declaration of ``--train``; ``what`` is trained."""
    return option(f"Dataset that {what} is trained on too: a folder, digits, scales or hf:FOLDER.", metavar="DATA")


def epochs_option(default: str) -> Any:  # noqa: ANN401 - what Typer returns
    """Return the declaration of ``--epochs``."""
    return option("Epochs of each run.", parser=whole, metavar="N", default=default)


class StudyOptions(RecipeOptions, Timing):
    """Training of the networks of a study."""

    train: Annotated[str | None, train_option("each network")] = None
    seeds: Annotated[int, option("Runs of each network, each with its own seed.", parser=whole, metavar="N")] = 3
    epochs: Annotated[int | None, epochs_option("those of the recipe")] = None
    jobs: Annotated[int, option("Runs at the same time.", parser=whole, metavar="N")] = 1

    def check(self) -> None:
        """Raise ``UsageError`` for options of the training without ``--train``."""
        for name in ("seeds", "epochs", "recipe", "setting", "jobs"):
            if not self.train and self.given(name):
                raise requires(self.flag(name), "--train", hint="--train DATA names the dataset")

    def study(self, folder: Path | None, size: str | None, share: int = 1) -> "StudyConfig | None":
        """Return how the networks are trained, None without ``--train``.

        ``size`` is the image size if it is not that of the recipe. Unless ``--epochs`` is given, the networks are trained for
        one ``share``-th of the recipe's epochs.
        """
        if not self.train:
            return None
        require("accelerate", "kornia", "torchmetrics")
        parse_training_device(self.device)
        from mpvit.training.study import StudyConfig, study_recipe

        settings: dict[str, object] = {**self.settings, **({} if self.epochs is None else {"epochs": self.epochs})}
        pixels = None if size is None else parse_size(size)
        named = study_recipe(self.train, self.recipe, settings, size=pixels, share=share)
        return StudyConfig(
            folder=folder or Path(FOLDER),
            recipe_name=named[0],
            recipe=named[1],
            seeds=self.seeds,
            jobs=self.jobs,
            device=self.device,
        )

    def open_data(self, terminal: Terminal) -> "Data":
        """Return the dataset without the images that cannot be read."""
        import torch

        from mpvit.training.data import find_damaged, open_data

        if self.threads:
            torch.set_num_threads(self.threads)
        data = open_data(str(self.train))
        data = data.without(find_damaged(data, 0, terminal.track))
        data.require_held_out()
        return data


class StudyAnswer(PlottedAnswer):
    """The answer: a file, or the folder of a study."""

    output: Annotated[
        Path | None,
        option(
            "File for the answer instead of standard output; with --train the folder of the study.",
            "--output",
            "-o",
            metavar="FILE",
            default=f"with --train {FOLDER}",
        ),
    ] = None


def run_study(terminal: Terminal, config: "StudyConfig", train: Callable[[Callable[[str, float], None]], Result]) -> Result:
    """Return the result of ``train`` and show its progress; if it is interrupted, say how the study continues."""
    try:
        with terminal.bar() as show:
            return train(show)
    except KeyboardInterrupt:
        terminal.note(f"interrupted: the same command continues {config.folder}")
        raise typer.Exit(130) from None


def keep(terminal: Terminal, document: Document, config: "StudyConfig", suffix: str = "") -> None:
    """Write the rows of a study into its folder, as JSON and as Markdown."""
    for kind in ("json", "md"):
        terminal.show(document, None, config.folder / f"rows{suffix}.{kind}")

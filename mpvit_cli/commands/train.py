"""``mpvit train``: training of a network on images."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.dense import SEGMENTERS, get_segmenter
from mpvit.errors import UsageError
from mpvit.imports import require
from mpvit.network import NamedNetwork
from mpvit.training.data import default_network, recipe_for
from mpvit.training.data.splits import Data
from mpvit.training.recipe import BATCH_OF_RATE, DTYPES, Recipe, override
from mpvit_cli.options import Options, argument, option
from mpvit_cli.options.answer import Format
from mpvit_cli.options.networks import OneNetwork, variant_option
from mpvit_cli.options.training import RecipeOptions, RunMachine
from mpvit_cli.options.values import number, whole
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mpvit.training.results import Epoch, Step
    from mpvit.training.run import Run
    from mpvit.training.trainer import RunOptions

DEFAULT_RUN = Path("mpvit-run")


class Dataset(Options):
    """The images."""

    data: Annotated[
        str | None,
        argument(
            "A folder of class folders, digits, scales, or hf:FOLDER; with --task a folder of images/ and masks/, or "
            "digits-on-textures.",
            metavar="DATA",
        ),
    ] = None


class TrainOptions(RecipeOptions, OneNetwork):
    """The network and the recipe; settings of the recipe are checked with it."""

    task: Annotated[
        str | None, option(f"Segmenter to train on the network: {', '.join(SEGMENTERS)}.", metavar="NAME", choices=SEGMENTERS)
    ] = None
    variant: Annotated[
        str | None, variant_option("digits-nano for digits and scales, pyramid-nano for digits-on-textures, else tiny")
    ] = None
    size: Annotated[str | None, option("Side of the square input, in pixels.", metavar="PIXELS")] = None
    epochs: Annotated[str | None, option("Epochs.", metavar="N")] = None
    batch: Annotated[str | None, option("Images in a step, over all processes.", metavar="N")] = None
    rate: Annotated[str | None, option("Learning rate after the warm-up, for this batch.", "--lr", metavar="RATE")] = None
    seed: Annotated[str | None, option("Random seed.", metavar="N")] = None
    dtype: Annotated[str | None, option("Dtype of the activations; bfloat16 by autocast.", choices=DTYPES)] = None

    def check(self) -> None:
        """Raise ``UsageError`` for an unknown segmenter."""
        if self.task is not None:
            get_segmenter(self.task, 1)

    @property
    def named_settings(self) -> dict[str, str]:
        """The settings of the recipe that have their own option, by name."""
        names = ("size", "epochs", "batch", "seed", "dtype")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def named_network(self, data: str) -> NamedNetwork:
        """Return the network to train on ``data``."""
        name, config = self.network(default_network(data, "tiny"))
        return NamedNetwork(name, config, task=None if self.task is None else get_segmenter(self.task, 1))

    def recipe_on(self, data: str) -> tuple[str, Recipe]:
        """Return the recipe for ``data``, with its name."""
        name, recipe = recipe_for(data, self.recipe, masked=self.task is not None)
        recipe = override(recipe, self.settings | self.named_settings)
        if self.rate is not None:
            recipe = override(recipe, {"rate": number(self.rate) * BATCH_OF_RATE / recipe.batch})
        return name, recipe


class RunFolder(Options):
    """The folder of the run, and what is written there."""

    output: Annotated[Path | None, option("Folder of the run.", "--output", "-o", metavar="RUN", default=str(DEFAULT_RUN))] = (
        None
    )
    resume: Annotated[Path | None, option("Folder of a run to continue.", metavar="RUN")] = None
    compiled: Annotated[bool, option("Compile the network with torch first.", "--compile")] = False
    save_every: Annotated[
        int, option("Steps between checkpoints; 0 for one checkpoint an epoch.", parser=whole, metavar="STEPS")
    ] = 0
    tensorboard: Annotated[bool, option("Write a TensorBoard log too, in RUN/tensorboard.", "--tensorboard")] = False

    def check(self) -> None:
        """Raise ``UsageError`` for a negative number of steps."""
        if self.save_every < 0:
            raise UsageError(f"--save-every {self.save_every}: must be at least 0")


def train(
    terminal: Terminal, dataset: Dataset, trained: TrainOptions, folder: RunFolder, machine: RunMachine, answer: Format
) -> None:
    """Train a network on images. The folder of the run keeps the weights, a log, curves and a checkpoint.

    The weights hold everything that mpvit predict and mpvit eval need. Several processes: torchrun --nproc-per-node 2 -m
    mpvit_cli train ...; the result is the same except for rounding.

    Examples:
      mpvit train digits -o run

      mpvit train --task semantic-fpn digits-on-textures -o segmenter

      mpvit train photos/ --variant tiny --epochs 100 --batch 256 --dtype bfloat16 --device cuda -o run
    """
    require("accelerate", "kornia", "torchmetrics")
    if folder.resume:
        _require_nothing_else(folder.resume, dataset, trained, folder)
    elif dataset.data is None:
        raise UsageError("no data is named", hint="mpvit train digits needs no files: they come with scikit-learn")
    asked = None if folder.resume else (trained.named_network(str(dataset.data)), *trained.recipe_on(str(dataset.data)))

    from mpvit.training.distributed import training_accelerator
    from mpvit.training.run import Run, start_run
    from mpvit.training.trainer import RunOptions

    machine.start(terminal)
    where = folder.resume or folder.output or DEFAULT_RUN
    log = where if folder.tensorboard else None
    if asked is None:
        run = Run.open(where)
        accelerator = training_accelerator(run.config.recipe, machine.device, log)
        data = run.open_data()
    else:
        accelerator = training_accelerator(asked[2], machine.device, log)
        run, data = start_run(where, str(dataset.data), *asked, accelerator, workers=machine.readers, track=terminal.track)
    _note_damaged(terminal, data)
    run_options = RunOptions(machine.readers, folder.compiled, folder.save_every)
    history = _train(terminal, run, data, accelerator, run_options)
    if accelerator.is_main_process:
        _show(terminal, run, data, history, machine.device, answer)


def _require_nothing_else(run: Path, dataset: Dataset, trained: TrainOptions, folder: RunFolder) -> None:
    """Raise ``UsageError`` for an option that would change a run that continues."""
    given = {"DATA": dataset.data, "-o": folder.output}
    for name in ("size", "epochs", "batch", "seed", "dtype", "rate", "task", "setting", "recipe", "config"):
        given[trained.flag(name)] = getattr(trained, name)
    given["--variant"] = trained.variant if trained.given("variant") else None
    for flag, value in given.items():
        if value:
            raise UsageError(f"{flag} with --resume {run}: a run continues as it began", hint=f"mpvit train --resume {run}")


def _train(
    terminal: Terminal, run: "Run", data: "Data", accelerator: "Accelerator", run_options: "RunOptions"
) -> "list[Epoch]":
    """Train to the end and return the epochs; an interrupt ends the command."""
    from mpvit.training.trainer import Interrupted, train

    try:
        with terminal.bar() as show:
            return train(run, data, accelerator, run_options, _watch(terminal, run, show))
    except Interrupted:
        terminal.note(f"interrupted between two steps; mpvit train --resume {run.folder} continues there")
        raise typer.Exit(130) from None


def _show(terminal: Terminal, run: "Run", data: "Data", history: "Sequence[Epoch]", device: str, answer: Format) -> None:
    """Show the result of a run, and draw its curves."""
    import torch

    from mpvit.plots.training import curves_figure
    from mpvit.tables.training import training_document
    from mpvit.training.run import CURVES

    config = run.config
    what = f"{config.task} on {config.model}, " if config.task else f"{config.model} on "
    terminal.save(curves_figure(history, f"{what}{data.name}, recipe {config.recipe_name}"), run.folder / CURVES)
    row = {
        "model": config.model,
        **({"task": config.task} if config.task else {}),
        "data": data.name,
        "train_images": len(data.train),
        "damaged": len(data.damaged),
        "recipe": config.recipe_name,
        "seed": config.recipe.seed,
        "weights": str(run.weights),
    }
    answer.show(terminal, training_document(history, row, device, torch.get_num_threads(), config.recipe.dtype))
    terminal.note(f"the weights are {run.weights}: mpvit predict IMG --weights {run.weights}")


def _note_damaged(terminal: Terminal, data: "Data") -> None:
    for name, reason in data.damaged:
        terminal.note(f"left out: {name}: {reason}")
    if data.damaged:
        terminal.note(f"{len(data.damaged)} images of {data.name} cannot be read and are left out")


def _watch(terminal: Terminal, run: "Run", show: Callable[[str, float], None]) -> "Callable[[Step | Epoch], None]":
    from mpvit.tables.number_text import percent
    from mpvit.tables.training import epoch_text
    from mpvit.training.results import Epoch

    epochs = run.config.recipe.epochs

    def watch(progress: "Step | Epoch") -> None:
        if isinstance(progress, Epoch):
            terminal.note(epoch_text(progress, epochs))
        else:
            text = f"epoch {progress.epoch}/{epochs} loss {progress.loss:.3f} accuracy {percent(progress.accuracy)}"
            show(f"{text} {progress.images_per_s:.0f} images/s", progress.share)

    return watch

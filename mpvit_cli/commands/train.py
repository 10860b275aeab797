"""``mpvit train``: a network learns what pictures show."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.dense import SEGMENTERS, get_segmenter
from mpvit.dense import Task as Segmenter
from mpvit.errors import UsageError
from mpvit.extras import require
from mpvit.network import NamedNetwork
from mpvit.training.data import default_network, recipe_for
from mpvit.training.recipe import BATCH_OF_RATE, DTYPES, Recipe, override
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mpvit.training.data.splits import Data
    from mpvit.training.results import Epoch, Step
    from mpvit.training.run import Run
    from mpvit.training.trainer import RunOptions

DataArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="A folder of class folders, digits, scales, or hf:FOLDER; with --task a folder of images/ and masks/, or "
        "digits-on-textures.",
        show_default=False,
    ),
]
Variant = Annotated[
    str | None, options.variant("digits-nano for digits and scales, pyramid-nano for digits-on-textures, else tiny")
]
Task = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Train a segmenter on the network: {', '.join(SEGMENTERS)}.",
        autocompletion=options.complete(SEGMENTERS),
        show_default=False,
    ),
]
Size = Annotated[str | None, typer.Option(metavar="PIXELS", help="Side of the square that the network sees.")]
Epochs = Annotated[str | None, typer.Option(metavar="N", help="Times that every picture is seen.")]
Batch = Annotated[str | None, typer.Option(metavar="N", help="Pictures a step, over all processes.")]
Rate = Annotated[str | None, typer.Option("--lr", metavar="RATE", help="Learning rate of this batch after the warm-up.")]
Seed = Annotated[str | None, typer.Option(metavar="N", help="Of whatever is random.")]
Dtype = Annotated[
    str | None,
    typer.Option(metavar="|".join(DTYPES), help="bfloat16: by autocast.", autocompletion=options.complete(DTYPES)),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="RUN", help="The run's folder. (default: mpvit-run)", show_default=False),
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.", show_default=False)]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")]
SaveEvery = Annotated[
    int, typer.Option(parser=options.whole, metavar="STEPS", help="Also a checkpoint every so many steps; 0: one an epoch.")
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard too, in RUN/tensorboard.")]

DEFAULT_RUN = Path("mpvit-run")


def train(
    ctx: typer.Context,
    data: DataArgument = None,
    task: Task = None,
    variant: Variant = None,
    config: options.Config = None,
    recipe: options.Recipe = None,
    size: Size = None,
    epochs: Epochs = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = None,
    dtype: Dtype = None,
    setting: options.Setting = None,
    output: Output = None,
    resume: Resume = None,
    workers: options.Workers = None,
    device: options.TrainingDevice = "cpu",
    threads: options.Threads = None,
    compiled: Compile = False,
    save_every: SaveEvery = 0,
    tensorboard: TensorBoard = False,
    form: options.Format = None,
) -> None:
    """Train a network on pictures, and keep the run in a folder: weights, log, curves, and a checkpoint to go on from.

    The weights hold all that mpvit predict and mpvit eval need. Several processes: torchrun --nproc-per-node 2 -m mpvit_cli
    train ...; what comes out is the same but for rounding.

    Examples:
      mpvit train digits -o run

      mpvit train --task semantic-fpn digits-on-textures -o segmenter

      mpvit train photos/ --variant tiny --epochs 100 --batch 256 --dtype bfloat16 --device cuda -o run
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    require("accelerate", "kornia", "torchmetrics")
    named = {"size": size, "epochs": epochs, "batch": batch, "seed": seed, "dtype": dtype, "lr": rate}
    if resume:
        asked: dict[str, object] = {f"--{name}": value for name, value in named.items()}
        asked |= {"--task": task, "--set": setting, "--recipe": recipe, "--config": config, "DATA": data, "-o": output}
        _check_resumed(resume, asked | {"--variant": options.given(ctx, "variant")})
    elif data is None:
        raise UsageError("no data is named", hint="mpvit train digits needs none: they come with scikit-learn")
    readers = options.parse_workers(workers)
    if save_every < 0:
        raise UsageError(f"--save-every {save_every}: must be at least 0")
    options.parse_training_device(device)
    segmenter = get_segmenter(task, 1) if task is not None else None
    chosen = None if resume else _chosen(ctx, str(data), variant, config, recipe, named, setting, segmenter)

    from mpvit.training.distributed import training_accelerator
    from mpvit.training.run import Run, start_run
    from mpvit.training.trainer import RunOptions

    options.set_threads(threads, readers)
    terminal.quiet |= os.environ.get("RANK", "0") != "0"
    folder = resume or output or DEFAULT_RUN
    if chosen is None:
        run = Run.open(folder)
        accelerator = training_accelerator(run.config.recipe, device, folder if tensorboard else None)
        found = run.open_data()
    else:
        network, recipe_name, how = chosen
        accelerator = training_accelerator(how, device, folder if tensorboard else None)
        run, found = start_run(folder, str(data), network, recipe_name, how, accelerator, workers=readers, track=terminal.track)
    _name_damaged(terminal, found)
    history = _learn(terminal, run, found, accelerator, RunOptions(readers, compiled, save_every))
    if accelerator.is_main_process:
        _show(terminal, run, found, history, device, form)


def _check_resumed(run: Path, asked: dict[str, object]) -> None:
    """Raise ``UsageError`` for the first that is asked for beside a run that goes on."""
    for option, value in asked.items():
        if value:
            raise UsageError(f"{option} with --resume {run}: a run goes on as it began", hint=f"mpvit train --resume {run}")


def _learn(
    terminal: Terminal, run: "Run", data: "Data", accelerator: "Accelerator", run_options: "RunOptions"
) -> "list[Epoch]":
    """Train to the end, and return the epochs; end the command where somebody interrupts that."""
    from mpvit.training.trainer import Interrupted, train

    try:
        with terminal.bar() as show:
            return train(run, data, accelerator, run_options, _watch(terminal, run, show))
    except Interrupted:
        terminal.note(f"interrupted between two steps; mpvit train --resume {run.folder} goes on from there")
        raise typer.Exit(130) from None


def _show(terminal: Terminal, run: "Run", found: "Data", history: "Sequence[Epoch]", device: str, form: str | None) -> None:
    """Say what a run has come to."""
    import torch

    from mpvit.plots.training import curves_figure
    from mpvit.tables.training import training_document
    from mpvit.training.run import CURVES

    settings = run.config
    what = f"{settings.task} on {settings.model}, " if settings.task else f"{settings.model} on "
    terminal.save(curves_figure(history, f"{what}{found.name}, recipe {settings.recipe_name}"), run.folder / CURVES)
    row = {
        "model": settings.model,
        **({"task": settings.task} if settings.task else {}),
        "data": found.name,
        "train_images": len(found.train),
        "damaged": len(found.damaged),
        "recipe": settings.recipe_name,
        "seed": settings.recipe.seed,
        "weights": str(run.weights),
    }
    document = training_document(history, row, device, torch.get_num_threads(), settings.recipe.dtype)
    terminal.show(document, form)
    terminal.note(f"the weights are {run.weights}: mpvit predict IMG --weights {run.weights}")


def _chosen(
    ctx: typer.Context,
    data: str,
    variant: str | None,
    config: Path | None,
    recipe: str | None,
    named: dict[str, str | None],
    setting: Sequence[str] | None,
    task: Segmenter | None,
) -> tuple[NamedNetwork, str, Recipe]:
    """Return the network, and the recipe with its name."""
    name, network = options.parse_model(ctx, variant or default_network(data, "tiny"), config)
    recipe_name, usual = recipe_for(data, recipe, masked=task is not None)
    changes = options.parse_settings(setting)
    rate = named.pop("lr")
    how = override(usual, changes | {key: value for key, value in named.items() if value is not None})
    if rate is not None:
        found = options.number(rate)
        how = override(how, {"rate": found * BATCH_OF_RATE / how.batch})
    return NamedNetwork(name, network, task=task), recipe_name, how


def _name_damaged(terminal: Terminal, data: "Data") -> None:
    for name, reason in data.damaged:
        terminal.note(f"left out: {name}: {reason}")
    if data.damaged:
        terminal.note(f"{len(data.damaged)} pictures of {data.name} cannot be read and are left out")


def _watch(terminal: Terminal, run: "Run", show: Callable[[str, float], None]) -> "Callable[[Step | Epoch], None]":
    from mpvit.tables.number_text import percent
    from mpvit.tables.training import epoch_text
    from mpvit.training.results import Epoch

    epochs = run.config.recipe.epochs

    def watch(seen: "Step | Epoch") -> None:
        if isinstance(seen, Epoch):
            terminal.note(epoch_text(seen, epochs))
        else:
            text = f"epoch {seen.epoch}/{epochs} loss {seen.loss:.3f} accuracy {percent(seen.accuracy)}"
            show(f"{text} {seen.images_per_s:.0f} images/s", seen.share)

    return watch

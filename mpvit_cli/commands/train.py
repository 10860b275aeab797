"""``mpvit train``: a network learns what pictures show."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvit.config import ModelConfig, load_config
from mpvit.errors import UsageError
from mpvit.training import require
from mpvit.training.recipe import DTYPES, RECIPES, Recipe, changed, get_recipe
from mpvit.variants import NETWORKS, get_config
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.training.data import Data
    from mpvit.training.results import Epoch, Step
    from mpvit.training.run import Run

DataArgument = Annotated[
    str | None,
    typer.Argument(metavar="DATA", help="A folder of class folders, digits, scales, or hf:FOLDER.", show_default=False),
]
Variant = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Network: {', '.join(NETWORKS)}. (default: digits-nano for digits, else tiny)",
        autocompletion=options.complete(NETWORKS),
        envvar="MPVIT_VARIANT",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="|".join(RECIPES),
        help="deit: for thousands of pictures a class; small: for hundreds. (default: small for digits, else deit)",
        autocompletion=options.complete(RECIPES),
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
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the recipe; repeatable.", show_default=False),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="RUN", help="The run's folder. (default: mpvit-run)", show_default=False),
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with this run.", show_default=False)]
Workers = Annotated[
    int | None,
    typer.Option(parser=options.whole, metavar="N", help="Processes that read pictures. (default: 2, at most a core each)"),
]
Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where it runs.", envvar="MPVIT_DEVICE")]
Compile = Annotated[bool, typer.Option("--compile", help="Compile the network with torch first.")]
SaveEvery = Annotated[
    int, typer.Option(parser=options.whole, metavar="STEPS", help="Also a checkpoint every so many steps; 0: one an epoch.")
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Log for TensorBoard too, in RUN/tensorboard.")]

DEFAULT_RUN = Path("mpvit-run")


def train(
    ctx: typer.Context,
    data: DataArgument = None,
    variant: Variant = None,
    config: options.Config = None,
    recipe: RecipeName = None,
    size: Size = None,
    epochs: Epochs = None,
    batch: Batch = None,
    rate: Rate = None,
    seed: Seed = None,
    dtype: Dtype = None,
    setting: Setting = None,
    output: Output = None,
    resume: Resume = None,
    workers: Workers = None,
    device: Device = "cpu",
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

      mpvit train photos/ --variant tiny --epochs 100 --batch 256 --dtype bfloat16 --device cuda -o run
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    require("accelerate", "kornia", "torchmetrics")
    named = {"size": size, "epochs": epochs, "batch": batch, "seed": seed, "dtype": dtype, "lr": rate}
    if resume:
        given = [f"--{name}" for name, value in (named | {"set": setting, "recipe": recipe, "config": config}).items() if value]
        if given or data or output or options.given(ctx, "variant"):
            what = (given or ["DATA" if data else "-o" if output else "--variant"])[0]
            raise UsageError(f"{what} with --resume {resume}: a run goes on as it began", hint=f"mpvit train --resume {resume}")
    elif data is None:
        raise UsageError("no data is named", hint="mpvit train digits needs none: they come with scikit-learn")
    readers = parse_workers(workers)
    if save_every < 0:
        raise UsageError(f"--save-every {save_every}: must be at least 0")
    parse_training_device(device)
    chosen = None if resume else _chosen(ctx, str(data), variant, config, recipe, named, setting)

    from mpvit.training.loop import Interrupted, Machine
    from mpvit.training.loop import train as learn
    from mpvit.training.processes import accelerator_for
    from mpvit.training.run import Run
    from mpvit.training.start import begin
    from mpvit.training.start import resume as go_on

    set_threads(threads, readers)
    terminal.quiet |= os.environ.get("RANK", "0") != "0"
    if chosen is None:
        run = Run.open(Path(str(resume)))
        accelerator = accelerator_for(run.settings.recipe, device)
        found = go_on(run)
    else:
        network, how = chosen
        accelerator = accelerator_for(how[1], device)
        folder = output or DEFAULT_RUN
        run, found = begin(folder, str(data), network, how, accelerator, workers=readers, watch=terminal.track)
    _name_damaged(terminal, found)
    machine = Machine(readers, compiled, save_every)
    try:
        with terminal.bar() as show, _board(run, tensorboard and accelerator.is_main_process) as log:
            history = learn(run, found, accelerator, machine, _watch(terminal, run, show, log))
    except Interrupted:
        terminal.note(f"interrupted between two steps; mpvit train --resume {run.folder} goes on from there")
        raise typer.Exit(130) from None
    if accelerator.is_main_process:
        _show(terminal, run, found, history, device, form)


def _show(terminal: Terminal, run: "Run", found: "Data", history: "Sequence[Epoch]", device: str, form: str | None) -> None:
    """Say what a run has come to."""
    import torch

    from mpvit.plots.training import curves_figure
    from mpvit.tables.training import training_document
    from mpvit.training.run import CURVES

    settings = run.settings
    terminal.save(
        curves_figure(history, f"{settings.model} on {found.name}, recipe {settings.recipe_name}"), run.folder / CURVES
    )
    row = {
        "model": settings.model,
        "data": found.name,
        "train_images": found.train.pictures,
        "damaged": len(found.damaged),
        "recipe": settings.recipe_name,
        "seed": settings.recipe.seed,
        "weights": str(run.weights),
    }
    document = training_document(history, row, device, torch.get_num_threads(), settings.recipe.dtype)
    terminal.show(document, form)
    terminal.note(f"the weights are {run.weights}: mpvit predict IMG --weights {run.weights}")


def parse_workers(number: int | None) -> int:
    """Return how many processes read pictures; raise ``UsageError`` for a number that no machine starts."""
    readers = min(2, _cores()) if number is None else number
    if not 0 <= readers <= _MOST_WORKERS:
        raise UsageError(f"--workers {readers}: must be from 0 to {_MOST_WORKERS}")
    return readers


_MOST_WORKERS = 1024


def set_threads(threads: int | None, readers: int) -> None:
    """Give torch so many threads; by default a core is left to those that read pictures, unless the environment says."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    elif readers and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), max(_cores() - 1, 1)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_settings(words: Sequence[str] | None) -> dict[str, Any]:
    """Read "mixup=0" into settings by name; raise ``UsageError`` for what has no value."""
    found = {}
    for text in words or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: must be NAME=VALUE", hint="for example --set mixup=0")
        found[name] = value
    return found


def parse_training_device(device: str) -> None:
    """Raise ``UsageError`` for a device that nothing is trained on here."""
    if device not in {"cpu", "cuda"}:
        raise UsageError(f"--device {device!r}: must be cpu or cuda", hint="the launcher gives each process its own GPU")
    if device == "cuda":
        from mpvit.prediction.inference import parse_device

        parse_device(device)


def _chosen(
    ctx: typer.Context,
    data: str,
    variant: str | None,
    config: Path | None,
    recipe: str | None,
    named: dict[str, str | None],
    setting: Sequence[str] | None,
) -> tuple[tuple[str, ModelConfig], tuple[str, Recipe]]:
    """Return the network and the recipe that are asked for, each with its name."""
    if config and options.given(ctx, "variant"):
        raise UsageError(f"--variant {variant} with --config {config}: must be one of them")
    from mpvit.training.data import DIGITS

    name = variant or ("digits-nano" if data == DIGITS else "tiny")
    network = (config.stem, load_config(config)) if config else (name, get_config(name))
    recipe_name = recipe or ("small" if data == DIGITS else "deit")
    changes = parse_settings(setting)
    rate = named.pop("lr")
    how = changed(get_recipe(recipe_name), changes | {key: value for key, value in named.items() if value is not None})
    if rate is not None:
        found = options.number(rate)
        how = changed(how, {"rate": found * 512 / how.batch})
    return network, (recipe_name, how)


def _name_damaged(terminal: Terminal, data: "Data") -> None:
    for name, reason in data.damaged:
        terminal.note(f"left out: {name}: {reason}")
    if data.damaged:
        terminal.note(f"{len(data.damaged)} pictures of {data.name} cannot be read and are left out")


def _board(run: "Run", wanted: bool) -> Any:  # noqa: ANN401, FBT001 - a context manager
    from mpvit.training.board import board

    return board(run.folder / "tensorboard", wanted=wanted)


def _watch(
    terminal: Terminal, run: "Run", show: Callable[[str, float], None], log: "Callable[[Epoch], None]"
) -> "Callable[[Step | Epoch], None]":
    from mpvit.tables.training import epoch_text, percent
    from mpvit.training.results import Epoch

    epochs = run.settings.recipe.epochs

    def watch(seen: "Step | Epoch") -> None:
        if isinstance(seen, Epoch):
            terminal.note(epoch_text(seen, epochs))
            log(seen)
        else:
            text = f"epoch {seen.epoch}/{epochs} loss {seen.loss:.3f} accuracy {percent(seen.accuracy)}"
            show(f"{text} {seen.images_per_s:.0f} images/s", seen.share)

    return watch

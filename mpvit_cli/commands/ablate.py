"""``mpvit ablate``: what each change of a network costs, alone or at the same budget."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.ablation.axes import AXES
from mpvit.ablation.knobs import KNOBS
from mpvit.ablation.study import BUDGETS, Ablation, AblationStudy, each_row
from mpvit.dense import get_tasks
from mpvit.dense.published import CONVENTION
from mpvit.errors import UsageError
from mpvit.tables.ablation import ablation_document
from mpvit.training.data import default_network
from mpvit.variants import DEFAULT_VARIANT
from mpvit_cli import options, studies, tasks
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.ablation.results import Row
    from mpvit.training.study import StudyConfig


def _axes_help() -> str:
    axes = [f"{name}: {axis.what} ({', '.join(axis.values)})" for name, axis in AXES.items()]
    more = "One value a stage is joined by /: 2/3/3/3, or by commas where semicolons part the values: 1;2,3,3,3."
    return "\n\n".join(["What changes, its values joined by commas; several axes make a grid.", *axes, more])


Axes = Annotated[
    list[str],
    typer.Argument(
        metavar="AXIS[=VALUE,...]...",
        help=_axes_help(),
        autocompletion=options.complete(AXES),
        show_default=False,
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--values", metavar="VALUE,...", help="Values of the axes that have none of their own, in order.", show_default=False
    ),
]
Match = Annotated[
    str,
    typer.Option(
        metavar="|".join(BUDGETS),
        help="What each row is to have in common with the baseline, within 1 %; latency only with --measure.",
        autocompletion=options.complete(BUDGETS),
    ),
]
Knob = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(KNOBS),
        help="What is turned to match. (default: width)",
        autocompletion=options.complete(KNOBS),
        show_default=False,
    ),
]
Measure = Annotated[bool, typer.Option("--measure", help="Also time each row, beside the baseline, on this machine.")]

TrainOn = Annotated[str | None, studies.train_on("each row")]
Epochs = Annotated[int | None, studies.epochs_of_each("the recipe's")]
Output = Annotated[Path | None, studies.study_folder("Write there, whole or not at all")]

_SHOWN_ROWS = 50
"""Of a grid in closed form, from which on counting takes long enough for a progress bar."""


def ablate(
    ctx: typer.Context,
    axis: Axes,
    variant: options.Variant = None,
    config: options.Config = None,
    values: Values = None,
    task: tasks.Task = None,
    match: Match = "none",
    knob: Knob = None,
    size: options.Size = "224",
    batch: options.Batch = 1,
    convention: options.Convention = "fvcore",
    measure: Measure = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    min_time: options.MinTime = 1.0,
    train: TrainOn = None,
    seeds: studies.Seeds = 3,
    epochs: Epochs = None,
    recipe: options.Recipe = None,
    setting: options.Setting = None,
    jobs: studies.Jobs = 1,
    plot: options.Plot = None,
    form: options.Format = None,
    output: Output = None,
) -> None:
    """Change a network along named axes and count each one: its cost, and the difference from the baseline by part.

    With --match, each row is made as costly as the baseline by turning a knob: the fair comparison. A row that the
    constraints refuse says why. With --train, each row is trained from several seeds; a study that was killed goes on where
    it was when the same command is given again.

    Examples:
      mpvit ablate paths --variant xsmall --values 1,2,3,4

      mpvit ablate paths --task upernet --variant small

      mpvit ablate paths --train digits --seeds 3 --epochs 5 -o study
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    _require_together(ctx, match, knob, task, train, measure=measure)
    name, network = options.parse_model(ctx, variant or default_network(train, DEFAULT_VARIANT), config)
    asked = size if options.given(ctx, "size") else None
    training = (
        studies.parse_training(train, recipe, epochs, setting, seeds, jobs, device, output, size=asked) if train else None
    )
    pixels = options.parse_size(size) if training is None else (training.recipe.size, training.recipe.size)
    (of_task,) = get_tasks([task]) if task else (None,)
    if of_task:
        pixels = pixels if options.chosen(ctx, "size") else of_task.size
        convention = convention if options.chosen(ctx, "convention") else CONVENTION
    study = AblationStudy(
        model=name,
        config=network,
        axes=parse_axes(axis, values or ()),
        size=pixels,
        batch=batch,
        convention=convention,
        match=match,
        knob=knob or "width",
        task=of_task,
    )
    total = 1 + len(study.grid)
    if plot:
        from mpvit.plots.ablation import ablation_figure, require_few

        require_few(total)
    if training and train:
        _train(terminal, study, train, training, plot, form, threads)
        return
    found: list[Row] = []
    if measure:
        from mpvit.ablation.measure import measure_rows
        from mpvit.measurement.options import TimingOptions

        timing = TimingOptions(device=device, dtype=dtype, threads=threads, min_time_s=min_time)
        rows: Iterator[Row] = measure_rows(study, timing)
    else:
        rows = each_row(study)
    terminal.progress &= measure or total > _SHOWN_ROWS
    interrupted = terminal.collect(rows, "Measuring" if measure else "Counting", total, into=found)
    ablation = Ablation(study, found[0], tuple(found[1:]))
    terminal.show(ablation_document(ablation, unfinished=interrupted), form, output)
    if plot:
        terminal.save(ablation_figure(ablation), plot)
    if interrupted:
        raise typer.Exit(130)
    if all(row.error for row in ablation.rows):
        raise typer.Exit(1)


def _require_together(
    ctx: typer.Context, match: str, knob: str | None, task: str | None, train: str | None, *, measure: bool
) -> None:
    """Raise ``UsageError`` for options that do not go together."""
    if knob is not None and match == "none":
        raise UsageError(f"--knob {knob}: must go with --match", hint="--match macs or --match params")
    studies.require_data(ctx, train)
    if train and measure:
        raise UsageError("--train with --measure: must be one of them", hint="a study keeps what it trains, not its times")
    if train and options.given(ctx, "dtype"):
        raise UsageError("--dtype with --train: must be a setting of the recipe", hint="--set dtype=bfloat16")
    if task and (train or measure):
        raise UsageError(
            f"--task with {'--train' if train else '--measure'}: must be one of them", hint="a task is counted alone"
        )


def _train(
    terminal: Terminal,
    study: AblationStudy,
    data: str,
    training: "StudyConfig",
    plot: Path | None,
    form: str | None,
    threads: int | None,
) -> None:
    """Train every row and show the study; its tables and figure are kept in its folder too."""
    from mpvit.ablation.saved import TrainedAblation, save
    from mpvit.ablation.training import train_rows
    from mpvit.plots.accuracy import cost_accuracy_figure

    if study.match == "latency":
        raise UsageError("--match latency with --train: must be macs or params")
    opened = studies.open_study(terminal, data, threads)
    study = replace(study, config=replace(study.config, num_classes=len(opened.classes)))
    rows = list(each_row(study))
    done = studies.learned(terminal, training, lambda show: train_rows(rows, study.model, opened, training, show))
    ablation = Ablation(study, done[0], tuple(done[1:]))
    document = ablation_document(ablation)
    save(
        TrainedAblation(
            where=str(training.folder),
            data=opened.name,
            classes=len(opened.classes),
            pictures=len(opened.train),
            recipe_name=training.recipe_name,
            recipe=training.recipe,
            ablation=ablation,
        )
    )
    terminal.show(document, form)
    suffix = "" if study.match == "none" else f"_same_{study.match}"  # both kinds may stand in one study
    studies.keep(terminal, document, training, suffix)
    terminal.save(cost_accuracy_figure(ablation, opened.name), plot or training.folder / f"cost_accuracy{suffix}.svg")


def parse_axes(words: Sequence[str], values: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read "paths=1,2" and "paths" into values by axis; ``values`` go to the axes without any, in order.

    Raises ``UsageError`` for an axis named twice, and values that are empty or go to no axis.
    """
    axes: dict[str, tuple[str, ...]] = {}
    left = list(values)
    for word in words:
        name, given, text = word.partition("=")
        if name in axes:
            raise UsageError(f"axis {name!r} twice: must be once", hint=f"join its values: {name}=1,2")
        if not given and left:
            given, text = "=", left.pop(0)
        axes[name] = _split(text) if given else ()
    if left:
        raise UsageError(f"--values {left[0][:40]!r}: goes to no axis", hint="one --values for each axis without =")
    return axes


def _split(text: str) -> tuple[str, ...]:
    """Split "1,2" and "1;2,3,3,3" into values; with semicolons, or where a number comes twice, commas are between stages."""
    values = [word.strip() for word in text.split(",")]
    if ";" not in text and len(set(values)) == len(values):
        return tuple(values)
    return tuple("/".join(word.strip() for word in value.split(",")) for value in text.split(";"))

"""``mpvit ablate``: cost of each change of a network, as it is or at the same budget."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.ablation.axes import AXES
from mpvit.ablation.knobs import KNOBS
from mpvit.ablation.results import Row
from mpvit.ablation.study import BUDGETS, Ablation, AblationStudy, each_row
from mpvit.architecture.variants import DEFAULT_VARIANT
from mpvit.dense import get_tasks
from mpvit.dense.published import CONVENTION
from mpvit.errors import UsageError
from mpvit.tables.ablation import ablation_document
from mpvit.training.data import default_network
from mpvit_cli.options import Options, argument, conflict, option, requires
from mpvit_cli.options.networks import BatchOption, ConventionOption, OneNetwork, SizeOption, TaskOption
from mpvit_cli.options.studies import StudyAnswer, StudyOptions, keep, run_study, train_option
from mpvit_cli.options.values import parse_size
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.training.study import StudyConfig


def _axes_help() -> str:
    axes = [f"{name}: {axis.what} ({', '.join(axis.values)})" for name, axis in AXES.items()]
    more = "Values for each stage are joined by /, as in 2/3/3/3; or by commas if semicolons separate the values: 1;2,3,3,3."
    return "\n\n".join(["Axes to change, with comma-separated values; several axes make a grid.", *axes, more])


class Edits(Options):
    """The axes that change."""

    axis: Annotated[list[str], argument(_axes_help(), metavar="AXIS[=VALUE,...]...", choices=AXES)]


class Ablated(OneNetwork):
    """The baseline, and how the rows are counted."""

    values: Annotated[
        list[str] | None, option("Values of an axis that has none in its argument, in order; repeatable.", metavar="VALUE,...")
    ] = None
    task: TaskOption = None
    match: Annotated[
        str, option("Figure that each row shares with the baseline, within 1 %; latency needs --measure.", choices=BUDGETS)
    ] = "none"
    knob: Annotated[str | None, option("Property that is changed to match.", choices=KNOBS, default="width")] = None
    size: SizeOption = "224"
    batch: BatchOption = 1
    convention: ConventionOption = "fvcore"
    measure: Annotated[bool, option("Time each row next to the baseline on this machine too.", "--measure")] = False

    def check(self) -> None:
        """Raise ``UsageError`` for a knob that matches nothing."""
        if self.knob is not None and self.match == "none":
            raise requires(f"--knob {self.knob}", "--match", hint="--match macs or --match params")


class RowStudy(StudyOptions):
    """Timing or training of the rows."""

    train: Annotated[str | None, train_option("each row")] = None


def ablate(terminal: Terminal, edits: Edits, ablated: Ablated, training: RowStudy, answer: StudyAnswer) -> None:
    """Change a network along named axes and count each change: its cost, and the difference from the baseline by part.

    With --match, each row is made as costly as the baseline by changing a knob, for a fair comparison. A row that a constraint
    refuses shows the reason. With --train, each row is trained from several seeds; the same command continues a study that was
    killed.

    Examples:
      mpvit ablate paths --variant xsmall --values 1,2,3,4

      mpvit ablate paths --task upernet --variant small

      mpvit ablate paths --train digits --seeds 3 --epochs 5 -o study
    """
    _require_compatible(ablated, training)
    config = training.study(answer.output, ablated.size if ablated.given("size") else None)
    study = _study(edits, ablated, training, config)
    total = 1 + len(study.grid)
    if answer.plot:
        from mpvit.plots.ablation import require_few

        require_few(total)
    if config:
        _train(terminal, study, training, config, answer)
        return
    if ablated.measure:
        from mpvit.ablation.measure import measure_rows

        rows: Iterator[Row] = measure_rows(study, training.options())
    else:
        rows = each_row(study)
    found: list[Row] = []
    terminal.progress &= ablated.measure or total > _ROWS_WITHOUT_PROGRESS
    interrupted = terminal.collect(rows, "Measuring" if ablated.measure else "Counting", total, into=found)
    ablation = Ablation(study, found[0], tuple(found[1:]))
    answer.show(terminal, ablation_document(ablation, unfinished=interrupted))
    answer.draw(terminal, "mpvit.plots.ablation:ablation_figure", ablation)
    if interrupted:
        raise typer.Exit(130)
    if all(row.error for row in ablation.rows):
        raise typer.Exit(1)


_ROWS_WITHOUT_PROGRESS = 50
"""Number of rows in closed form that are counted without a progress bar."""


def _require_compatible(ablated: Ablated, training: RowStudy) -> None:
    """Raise ``UsageError`` for options that do not go together."""
    if training.train and ablated.measure:
        raise conflict("--train", "--measure", hint="a study keeps accuracies, not times")
    if training.train and training.given("dtype"):
        raise UsageError("--dtype with --train: must be a setting of the recipe", hint="--set dtype=bfloat16")
    if training.train and ablated.match == "latency":
        raise UsageError("--match latency with --train: must be macs or params")
    if ablated.task and (training.train or ablated.measure):
        raise conflict("--task", "--train" if training.train else "--measure", hint="a task is only counted")


def _study(edits: Edits, ablated: Ablated, training: RowStudy, config: "StudyConfig | None") -> AblationStudy:
    name, network = ablated.network(default_network(training.train, DEFAULT_VARIANT))
    (task,) = get_tasks([ablated.task]) if ablated.task else (None,)
    size = (config.recipe.size, config.recipe.size) if config else parse_size(ablated.size)
    return AblationStudy(
        model=name,
        config=network,
        axes=parse_axes(edits.axis, ablated.values or ()),
        size=task.size if task and not ablated.chosen("size") else size,
        batch=ablated.batch,
        convention=CONVENTION if task and not ablated.chosen("convention") else ablated.convention,
        match=ablated.match,
        knob=ablated.knob or "width",
        task=task,
    )


def _train(terminal: Terminal, study: AblationStudy, training: RowStudy, config: "StudyConfig", answer: StudyAnswer) -> None:
    """Train every row and show the study; its folder keeps the tables and the figure too."""
    from mpvit.ablation.saved import TrainedAblation, save
    from mpvit.ablation.training import train_rows
    from mpvit.plots.accuracy import cost_accuracy_figure

    data = training.open_data(terminal)
    study = replace(study, config=replace(study.config, num_classes=len(data.classes)))
    rows = list(each_row(study))
    done = run_study(terminal, config, lambda show: train_rows(rows, study.model, data, config, show))
    ablation = Ablation(study, done[0], tuple(done[1:]))
    save(
        TrainedAblation(
            where=str(config.folder),
            data=data.name,
            classes=len(data.classes),
            pictures=len(data.train),
            recipe_name=config.recipe_name,
            recipe=config.recipe,
            ablation=ablation,
        )
    )
    document = ablation_document(ablation)
    terminal.show(document, answer.form)
    suffix = "" if study.match == "none" else f"_same_{study.match}"  # a folder can have both kinds
    keep(terminal, document, config, suffix)
    terminal.save(cost_accuracy_figure(ablation, data.name), answer.plot or config.folder / f"cost_accuracy{suffix}.svg")


def parse_axes(words: Sequence[str], values: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read "paths=1,2" and "paths" into values by axis; ``values`` are for the axes without their own, in order.

    Raises ``UsageError`` for an axis that is named twice, and for values that are empty or belong to no axis.
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
        raise UsageError(f"--values {left[0][:40]!r}: belongs to no axis", hint="one --values for each axis without =")
    return axes


def _split(text: str) -> tuple[str, ...]:
    """Split "1,2" and "1;2,3,3,3" into values.

    With semicolons, or if a number comes twice, commas separate the stages of one value.
    """
    values = [word.strip() for word in text.split(",")]
    if ";" not in text and len(set(values)) == len(values):
        return tuple(values)
    return tuple("/".join(word.strip() for word in value.split(",")) for value in text.split(";"))

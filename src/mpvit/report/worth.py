"""What a path is worth: studies whose rows were trained, and what the paths of a trained network see."""

from collections.abc import Iterator
from itertools import groupby
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from mpvit.ablation.results import Row
from mpvit.ablation.saved import TrainedAblation
from mpvit.report.glance import Figure, Glance, Line, short
from mpvit.report.results import Report, Sight
from mpvit.report.sections import Section
from mpvit.tables import Document, Table
from mpvit.tables.ablation import ablation_document
from mpvit.tables.accuracy import accuracy_text, conclusions, is_baseline, points_text
from mpvit.training.recipe import changes_of
from mpvit.units import grouped, times
from mpvit.variants import NETWORKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_TITLES = {
    "fields": "How far each path sees",
    "contribution": "What each path brings",
    "similarity": "How alike paths are",
    "attention": "What a token attends to",
}
_LEADS = {
    "fields": "Paths of a stage see patches of different sizes: so the closed form says, and so gradients show on the network.",
    "contribution": "The fusion adds up what its branches bring. Silencing one shows whether the network can do without it.",
    "similarity": "Paths that say the same are a price paid twice.",
    "attention": "Factorized attention never forms a map between tokens, but it implies one.",
}

# ── the first screen ────────────────────────────────────────────────────────────────────────────────────────────────


class Worth(NamedTuple):
    """Studies of the same rows on the same data: how they were trained, what they come to, and what follows."""

    trained: str
    glance: Glance
    conclusions: tuple[str, ...]


def worth_at_a_glance(report: Report) -> list[Worth]:
    """Return one for each network and data that rows were trained on: as they are and matched stand together."""
    groups = [list(studies) for _, studies in groupby(report.studies, key=_asked)]
    return [Worth(_trained(studies[0]), _glance(studies), tuple(map(_conclusion, studies))) for studies in groups]


def _asked(study: TrainedAblation) -> tuple[object, ...]:
    """Return what studies have in common that stand in one table: network, data, recipe, and the rows' values."""
    ablation = study.ablation
    return ablation.study.model, study.data, study.recipe, tuple(tuple(row.values.values()) for row in ablation.rows)


def _trained(study: TrainedAblation) -> str:
    epochs = study.recipe.epochs
    return (
        f"Trained: {study.ablation.study.model}, {study.seeds} seeds a row, {epochs} epoch{'s' if epochs > 1 else ''} of "
        f"{study.data}: {grouped(study.pictures)} pictures in {study.classes} classes to learn from, "
        f"{grouped(_held_out(study))} held out."
    )


def _conclusion(study: TrainedAblation) -> str:
    sentence = " ".join(conclusions(study.ablation)) or "one seed a row says nothing of differences."
    return f"{_kind(study)}: {sentence[0].lower()}{sentence[1:]}"


def _held_out(study: TrainedAblation) -> int:
    return study.ablation.baseline.accuracy.images if study.ablation.baseline.accuracy else 0


def _kind(study: TrainedAblation) -> str:
    match = study.ablation.study.match
    return "As they are" if match == "none" else f"At the same {_QUANTITIES[match]}"


_QUANTITIES = {"macs": "multiply-adds", "params": "parameters"}


def _glance(studies: list[TrainedAblation]) -> Glance:
    first = studies[0].ablation
    lines = [line for study in studies for line in _lines(study)]
    axes = ", ".join(first.study.axes).capitalize()
    return Glance(
        f"{axes} of {first.study.model} on {studies[0].data}",
        tuple(", ".join(row.values.values()) for row in first.rows),
        tuple(lines),
    )


def _lines(study: TrainedAblation) -> Iterator[Line]:
    rows, same = study.ablation.rows, study.ablation.study.match != "none"
    hint = "% ± 95 % interval" if study.seeds > 1 else "%, one seed"
    if not same:
        yield Line("Multiply-adds", "", tuple(map(_cost, rows)))
    yield Line("Same budget: top-1" if same else "Top-1", hint, tuple(_accuracy(row) for row in rows))
    yield Line("Difference", "points, paired by seed", tuple(_points(study, row) for row in rows))


def _cost(row: Row) -> Figure:
    return Figure(short(row.cost.macs), grouped(row.cost.macs)) if row.cost else _MISSING


def _accuracy(row: Row) -> Figure:
    return Figure(accuracy_text(row.accuracy, 1), accuracy_text(row.accuracy)) if row.accuracy else _MISSING


def _points(study: TrainedAblation, row: Row) -> Figure:
    if is_baseline(study.ablation, row):
        return Figure("baseline", "baseline")
    return Figure(points_text(row.accuracy, 1), points_text(row.accuracy)) if row.accuracy else _MISSING


_MISSING = Figure("–", "–")


# ── sections ────────────────────────────────────────────────────────────────────────────────────────────────────────


def worth_sections(report: Report) -> list[Section]:
    """Return a section for each study and each view of a trained network."""
    return [*map(_study, range(len(report.studies)), report.studies), *map(_sight, report.sights)]


def _study(place: int, study: TrainedAblation) -> Section:
    match = study.ablation.study.match
    what = " and ".join(f"{axis}" for axis in study.ablation.study.axes)

    def draw() -> "Drawing":
        from mpvit.plots.accuracy import cost_accuracy_figure

        return cost_accuracy_figure(study.ablation, study.data)

    return Section(
        name=f"worth-{place + 1}",
        title=f"What {what} are worth" + ("" if match == "none" else f", at the same {_QUANTITIES[match]}"),
        lead=(
            "Every row was trained alike: by one recipe, from the same seeds, with the same data in the same order. "
            "Differences from the baseline are paired by seed."
        ),
        command=study_command(study),
        document=ablation_document(study.ablation),
        caption=f"{study.ablation.study.model} on {study.data}: accuracy over multiply-adds, each seed a dot.",
        draw=draw,
    )


def study_command(study: TrainedAblation) -> str:
    """Return the command that trains a study again."""
    asked, recipe = study.ablation.study, study.recipe
    named = asked.model in NETWORKS
    changes = changes_of(recipe, study.recipe_name)
    height, width = asked.size
    given = {
        "variant": asked.model if named else None,
        "config": None if named else f"{asked.model}.toml",
        "train": study.data,
        "recipe": study.recipe_name,
        "size": str(height) if height == width else times(asked.size, "x"),
        "seeds": str(study.seeds),
        "epochs": str(recipe.epochs) if "epochs" in changes else None,
        **{f"set {name}={_plain(value)}": "" for name, value in changes.items() if name not in {"size", "epochs"}},
        "match": None if asked.match == "none" else asked.match,
        "knob": None if asked.match == "none" else asked.knob,
    }
    axes = [f"{axis}={','.join(values)}" for axis, values in asked.axes.items()]
    options = [f"--{key} {quote(value) if value else ''}".strip() for key, value in given.items() if value is not None]
    return " ".join(["mpvit ablate", *map(quote, axes), *options, "-o", quote(study.where)])


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sight(sight: Sight) -> Section:
    data = f" --data {quote(sight.data)}" if sight.data else ""
    command = f"mpvit paths --view {sight.view} --weights {quote(sight.weights)}{data}"
    tables = tuple(Table(table.title, table.columns, table.rows) for table in sight.tables)
    return Section(
        name=f"paths-{sight.view}",
        title=_TITLES[sight.view],
        lead=_LEADS[sight.view],
        command=command,
        document=Document("paths", sight.results, tables, sight.notes),
        caption=sight.caption,
        figure_command=f"{command} --plot {sight.view}.svg",
        svg=sight.svg,
    )

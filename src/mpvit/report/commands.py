"""The commands that make the tables and figures of a report again."""

from collections.abc import Mapping, Sequence
from shlex import quote

from mpvit.ablation.saved import TrainedAblation
from mpvit.architecture.variants import NETWORKS, VARIANTS
from mpvit.report.results import PathView, Report
from mpvit.training.recipe import differences
from mpvit.units import times


def command_line(name: str, report: Report, options: Mapping[str, object], *, models: Sequence[str] | None = None) -> str:
    """Return a command with the options for the report's networks, all or ``models``, and their image size."""
    chosen = models or report.models
    variants = [name for name in chosen if report.is_published(name)]
    files = [quote(f"{name}.toml") for name in chosen if name not in variants]
    given = {
        "variant": "all" if variants == list(VARIANTS) else ",".join(variants) or None,
        "config": " --config ".join(files) or None,
        "size": _size(report.size),
        **options,
    }
    return " ".join(["mpvit", name, *(f"--{key} {value}".strip() for key, value in given.items() if value is not None)])


def report_command(report: Report) -> str:
    """Return the command that makes the report again."""
    options: dict[str, object] = {"measure": ""} if report.times else {}
    if report.studies:
        options["study"] = " --study ".join(dict.fromkeys(quote(study.where) for study in report.studies))
    if report.path_views:
        options |= {"weights": quote(report.path_views[0].weights), "data": report.path_views[0].data}
    return command_line("report", report, options)


def study_command(study: TrainedAblation) -> str:
    """Return the command that trains a study again."""
    asked, recipe = study.ablation.study, study.recipe
    changes = differences(recipe, study.recipe_name)
    given = {
        "variant" if asked.model in NETWORKS else "config": asked.model if asked.model in NETWORKS else f"{asked.model}.toml",
        "train": study.data,
        "recipe": study.recipe_name,
        "size": _size(asked.size),
        "seeds": str(study.seeds),
        "epochs": str(recipe.epochs) if "epochs" in changes else None,
        **{f"set {name}={_plain(value)}": "" for name, value in changes.items() if name not in {"size", "epochs"}},
        "match": None if asked.match == "none" else asked.match,
        "knob": None if asked.match == "none" else asked.knob,
    }
    axes = [f"{axis}={','.join(values)}" for axis, values in asked.axes.items()]
    options = [f"--{key} {quote(value) if value else ''}".strip() for key, value in given.items() if value is not None]
    return " ".join(["mpvit ablate", *map(quote, axes), *options, "-o", quote(study.where)])


def view_command(view: PathView) -> str:
    """Return the command that makes a view of paths again."""
    data = f" --data {quote(view.data)}" if view.data else ""
    return f"mpvit paths --view {view.view} --weights {quote(view.weights)}{data}"


def _size(size: tuple[int, int]) -> str:
    height, width = size
    return str(height) if height == width else times(size, "x")


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

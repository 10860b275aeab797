"""The page's first screen: what each network costs and scores, and what a path costs and buys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mpvit.ablation.results import Row
from mpvit.ablation.study import Ablation
from mpvit.config import FIRST_STAGE, TRAINED_SIZE, ModelConfig
from mpvit.operations import Cost
from mpvit.report.results import Report
from mpvit.tables.measured import milliseconds
from mpvit.units import grouped
from mpvit.variants import VARIANTS, PublishedAccuracy

Of = TypeVar("Of")

_SCALES = ((10**9, "G"), (10**6, "M"), (10**3, "k"))

_PUBLISHED_SIZE = (TRAINED_SIZE, TRAINED_SIZE)
"""The accuracies are those of such images alone."""

_PATH = "3"
"""The number of paths whose last one stands for a path: most published stages have as many."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: to read at a glance, and in full."""

    text: str
    exact: str


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of every column, and what it means."""

    label: str
    hint: str
    cells: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Glance:
    """A table to take in at a glance; ``corner`` says what its columns are."""

    corner: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


def network_glance(report: Report) -> Glance:
    """Return what each network and a path of it costs, what it scores where that is published, and its time if measured."""
    lines = [
        _line("Parameters", "learned numbers", report.counts, lambda count: _whole(count.params)),
        _line("Multiply-adds", "MACs; the paper says FLOPs", report.counts, lambda count: _whole(count.macs)),
        _line("Activations", "numbers that its layers put out", report.counts, lambda count: _whole(count.activations)),
        *_accuracies(report),
    ]
    paths = [step_cost(found) for found in report.paths]
    lines.append(Line("+1 path: params", "in every stage, the third", tuple(_of(cost, "params") for cost in paths)))
    lines.append(Line("+1 path: MACs", "likewise", tuple(_of(cost, "macs") for cost in paths)))
    return Glance("", report.models, (*lines, _latency(report)) if report.times else tuple(lines))


def network_notes(report: Report) -> list[str]:
    """Return where the accuracies come from."""
    sources = dict.fromkeys(each.source for each in _published_accuracies(report).values())
    return [f"Accuracy: percent of ImageNet-1K's validation images; {source}." for source in sources]


def path_glance(report: Report) -> Glance:
    """Return what numbers of paths cost the featured network, as it is and with its width made to meet its multiply-adds."""
    found, matched = report.paths[report.models.index(report.featured)], report.matched[0]
    budget = f"at {short(found.baseline.cost.macs)} MACs" if found.baseline.cost else ""
    return Glance(
        f"Paths in every stage of {report.featured}",
        tuple(row.values["paths"] for row in found.rows),
        (
            _line("Parameters", "", found.rows, lambda row: _of(row.cost, "params")),
            _line("Multiply-adds", "", found.rows, lambda row: _of(row.cost, "macs")),
            _line("Same budget: channels", budget, matched.rows, _amounts),
            _line("Same budget: params", budget, matched.rows, lambda row: _of(row.cost, "params")),
        ),
    )


def _amounts(row: Row) -> Figure:
    return _same("/".join(map(str, row.matched.amounts)) if row.matched else "refused")


def path_story(report: Report) -> list[str]:
    """Return what a path costs and what it buys, in sentences."""
    name = report.featured
    place = report.models.index(name)
    cost, whole = step_cost(report.paths[place]), report.counts[place].macs
    windows = patch_windows(report.configs[name])
    buys = f"Each path embeds patches at a scale of its own, {windows}: a further path buys a further scale."
    if cost and whole:
        buys += (
            f" In every stage of {name}, the third costs {short(cost.params)} parameters and {short(cost.macs)} multiply-adds: "
            f"{100 * cost.macs / whole:.0f} % of the network's."
        )
    paid = "At the same budget, paths are paid for with width. Which of the two is worth more, training must show"
    shown = (
        "the study here did, on a small network" if report.studies else "accuracies are published for the four variants alone"
    )
    return [f"{buys} {paid}: {shown}."]


def patch_windows(config: ModelConfig) -> str:
    """Return what the patches of each stage's paths cover of the stage's input; stages of the same windows stand together."""
    stages: dict[tuple[int, ...], list[int]] = {}
    for index, stage in enumerate(config.stages):
        windows = tuple(stage.patch_window(path, config.stride(index)) for path in range(stage.paths))
        stages.setdefault(windows, []).append(index + FIRST_STAGE)
    texts = [f"{_listed([f'{side}×{side}' for side in sides])} in {_stages(numbers)}" for sides, numbers in stages.items()]
    return f"{'; '.join(texts)} (positions of the stage's input)"


def _stages(numbers: Sequence[int]) -> str:
    return f"stage{'s' if len(numbers) > 1 else ''} {_listed(list(map(str, numbers)))}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def step_cost(found: Ablation) -> Cost | None:
    """Return what the third path in every stage adds to the whole network; None where there is no such row."""
    row = _row(found)
    step = found.step(row) if row else None
    return sum(step.values(), Cost()) if step else None


def short(number: int) -> str:
    """Return a count to three digits with its scale: 2.97 G."""
    for scale, sign in _SCALES:
        if abs(number) >= scale:
            value = number / scale
            return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f} {sign}"
    return str(number)


def _row(found: Ablation) -> Row | None:
    return next((row for row in found.rows if row.values["paths"] == _PATH), None)


def _accuracies(report: Report) -> list[Line]:
    """Return the published accuracies, at the size that they are published for."""
    known = _published_accuracies(report)
    if not known:
        return []
    found = [known.get(name) for name in report.models]
    return [
        Line("Top-1", "accuracy, published", tuple(_percent(each.top1) if each else _same("–") for each in found)),
        Line("Top-5", "accuracy, published", tuple(_percent(each.top5) if each else _same("–") for each in found)),
    ]


def _published_accuracies(report: Report) -> dict[str, PublishedAccuracy]:
    """Return those of the published networks in the report, at the size that they are published for."""
    names = [name for name in report.models if report.is_published(name)] if report.size == _PUBLISHED_SIZE else []
    return {name: VARIANTS[name].accuracy for name in names}


def _latency(report: Report) -> Line:
    """Return the shortest median latency of each network among its modes."""
    cells = []
    for name in report.models:
        taken = [(time.timed.measurement.median_s, time.mode) for time in report.times if time.model == name]
        known = sorted((seconds, mode) for seconds, mode in taken if seconds is not None)
        shortest = f"{milliseconds(known[0][0])} ms" if known else "–"
        cells.append(_same(shortest, f"{shortest} ({known[0][1]})" if known else ""))
    measured = report.times[0].timed.measurement
    return Line("Latency here", f"fastest mode, {measured.device}, threads: {measured.threads}", tuple(cells))


def _line(label: str, hint: str, each: Sequence[Of], read: Callable[[Of], Figure]) -> Line:
    return Line(label, hint, tuple(map(read, each)))


def _of(cost: Cost | None, figure: str) -> Figure:
    return _whole(None if cost is None else getattr(cost, figure))


def _whole(number: int | None) -> Figure:
    return _same("–") if number is None else Figure(short(number), grouped(number))


def _percent(number: float) -> Figure:
    return Figure(f"{number:.1f} %", f"{number} %")


def _same(text: str, exact: str = "") -> Figure:
    return Figure(text, exact or text)

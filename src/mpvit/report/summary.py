"""The first screen of the page: cost and accuracy of each network, the cost of a path, and what trained studies show."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from mpvit.ablation.results import Row
from mpvit.ablation.saved import TrainedAblation
from mpvit.ablation.study import Ablation
from mpvit.architecture.config import TRAINED_SIZE, ModelConfig
from mpvit.architecture.variants import VARIANTS, PublishedAccuracy
from mpvit.operations import Cost
from mpvit.paths.fields import path_fields
from mpvit.report.results import Report
from mpvit.tables import Cell, Column, Label, Rounded, Table
from mpvit.tables.ablation import QUANTITIES
from mpvit.tables.accuracy import accuracy_text, conclusions, is_baseline, points_text
from mpvit.tables.number_text import milliseconds
from mpvit.units import grouped

_SCALES = ((10**9, "G"), (10**6, "M"), (10**3, "k"))

_PATH = "3"
"""Number of paths whose last one represents a path: most published stages have as many."""


def _summary(corner: str, columns: Sequence[str], rows: Sequence[tuple[Cell, ...]]) -> Table:
    return Table("", (Column(corner), *(Column(name, numeric=True) for name in columns)), tuple(rows))


def short(number: int) -> str:
    """Return a count in three digits with its scale: 2.97 G."""
    for scale, sign in _SCALES:
        if abs(number) >= scale:
            value = number / scale
            return f"{value:.{max(0, 3 - len(str(int(abs(value)))))}f} {sign}"
    return str(number)


def _count(number: int | None) -> Cell:
    return None if number is None else Rounded(short(number), grouped(number))


def _figure(cost: Cost | None, name: str) -> Cell:
    return _count(getattr(cost, name, None))


# ── networks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def network_table(report: Report) -> Table:
    """Return the cost of each network and of one more path, its accuracy if that is published, its latency if measured."""
    steps = [path_cost(found) for found in report.paths]
    rows: list[tuple[Cell, ...]] = [
        (Label("Parameters", "learned numbers"), *(_count(count.params) for count in report.counts)),
        (Label("Multiply-adds", "MACs; the paper says FLOPs"), *(_count(count.macs) for count in report.counts)),
        (Label("Activations", "outputs of its layers"), *(_count(count.activations) for count in report.counts)),
        *_accuracy_rows(report),
        (Label("+1 path: params", "the third, in every stage"), *(_figure(step, "params") for step in steps)),
        (Label("+1 path: MACs", "the third, in every stage"), *(_figure(step, "macs") for step in steps)),
    ]
    if report.times:
        measured = report.times[0].timed.measurement
        hint = f"fastest mode, {measured.device}, threads: {measured.threads}"
        rows.append((Label("Latency here", hint), *(_latency(report, name) for name in report.models)))
    return _summary("", report.models, rows)


def network_notes(report: Report) -> list[str]:
    """Return the sources of the accuracies."""
    sources = dict.fromkeys(each.source for each in _published_accuracies(report).values())
    return [f"Accuracy: percent of ImageNet-1K's validation images; {source}." for source in sources]


def _accuracy_rows(report: Report) -> Iterator[tuple[Cell, ...]]:
    published = _published_accuracies(report)
    for label, name in (("Top-1", "top1"), ("Top-5", "top5")) if published else ():
        shares = [getattr(published.get(model), name, None) for model in report.models]
        cells = [None if share is None else Rounded(f"{share:.1f} %", f"{share} %") for share in shares]
        yield Label(label, "accuracy, published"), *cells


def _published_accuracies(report: Report) -> dict[str, PublishedAccuracy]:
    """Return those of the published networks; none if the report is for another image size than theirs."""
    if report.size != (TRAINED_SIZE, TRAINED_SIZE):
        return {}
    return {name: VARIANTS[name].accuracy for name in report.models if report.is_published(name)}


def _latency(report: Report, model: str) -> Cell:
    """Return the shortest median latency of a network among its modes."""
    medians = [(time.timed.measurement.median_s, time.mode) for time in report.times if time.model == model]
    known = sorted((seconds, mode) for seconds, mode in medians if seconds is not None)
    if not known:
        return None
    text = f"{milliseconds(known[0][0])} ms"
    return Rounded(text, f"{text} ({known[0][1]})")


# ── paths ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def path_table(report: Report) -> Table:
    """Return the cost of the featured network by its number of paths, with its own width and at the same multiply-adds."""
    found, (matched,) = report.featured_paths, report.matched
    hint = f"at {short(found.baseline.cost.macs)} MACs" if found.baseline.cost else ""
    rows: list[tuple[Cell, ...]] = [
        (Label("Parameters", ""), *(_figure(row.cost, "params") for row in found.rows)),
        (Label("Multiply-adds", ""), *(_figure(row.cost, "macs") for row in found.rows)),
        (Label("Same budget: channels", hint), *map(_channels, matched.rows)),
        (Label("Same budget: params", hint), *(_figure(row.cost, "params") for row in matched.rows)),
    ]
    return _summary(f"Paths in every stage of {report.featured}", [row.values["paths"] for row in found.rows], rows)


def _channels(row: Row) -> str:
    return "/".join(map(str, row.matched.amounts)) if row.matched else "refused"


def path_text(report: Report) -> str:
    """Return what a further path costs and adds, in sentences."""
    name = report.featured
    step, macs = path_cost(report.featured_paths), report.counts[report.models.index(name)].macs
    windows = patch_windows(report.configs[name])
    text = f"Each path embeds patches of its own scale, {windows}: a further path adds a further scale."
    if step and macs:
        text += (
            f" In every stage of {name}, the third path costs {short(step.params)} parameters and {short(step.macs)} "
            f"multiply-adds: {100 * step.macs / macs:.0f} % of the network's."
        )
    answer = (
        "the study on this page does so for a small network"
        if report.studies
        else "only the four published variants have accuracies"
    )
    return f"{text} At the same budget, more paths mean fewer channels. Only training shows which is worth more: {answer}."


def patch_windows(config: ModelConfig) -> str:
    """Return the size of the patches of each path in positions of its stage's input; stages with equal sizes together."""
    stages: dict[tuple[int, ...], list[int]] = {}
    for stage, fields in groupby(path_fields(config), key=lambda field: field.stage):
        stages.setdefault(tuple(field.embedding_window for field in fields), []).append(stage)
    texts = [
        f"{_listed([f'{side}×{side}' for side in sides])} in stage{'s' if len(numbers) > 1 else ''} {_listed(numbers)}"
        for sides, numbers in stages.items()
    ]
    return f"{'; '.join(texts)} (positions of the stage's input)"


def _listed(items: Sequence[object]) -> str:
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def path_cost(found: Ablation) -> Cost | None:
    """Return the cost that the third path in every stage adds to the network; None if the ablation has no such row."""
    row = next((row for row in found.rows if row.values["paths"] == _PATH), None)
    step = found.step(row) if row else None
    return sum(step.values(), Cost()) if step else None


# ── trained studies ─────────────────────────────────────────────────────────────────────────────────────────────────


class StudySummary(NamedTuple):
    """Studies of the same rows on the same data: how they were trained, their accuracies, and what follows from them."""

    training: str
    table: Table
    conclusions: tuple[str, ...]


def study_summaries(report: Report) -> list[StudySummary]:
    """Return one summary for each network and data; rows with their own width and matched rows share it."""
    groups = [list(studies) for _, studies in groupby(report.studies, key=_group_key)]
    return [StudySummary(_training(studies[0]), _study_table(studies), tuple(map(_conclusion, studies))) for studies in groups]


def _group_key(study: TrainedAblation) -> tuple[object, ...]:
    ablation = study.ablation
    return ablation.study.model, study.data, study.recipe, tuple(tuple(row.values.values()) for row in ablation.rows)


def _training(study: TrainedAblation) -> str:
    epochs, accuracy = study.recipe.epochs, study.ablation.baseline.accuracy
    return (
        f"{study.ablation.study.model} was trained with {study.seeds} seeds per row for {epochs} "
        f"epoch{'s' if epochs > 1 else ''} of {study.data}: {grouped(study.pictures)} training images in {study.classes} "
        f"classes, {grouped(accuracy.images if accuracy else 0)} held-out images."
    )


def _study_table(studies: Sequence[TrainedAblation]) -> Table:
    first = studies[0].ablation
    corner = f"{', '.join(first.study.axes).capitalize()} of {first.study.model} on {studies[0].data}"
    rows = [row for study in studies for row in _study_rows(study)]
    return _summary(corner, [", ".join(row.values.values()) for row in first.rows], rows)


def _study_rows(study: TrainedAblation) -> Iterator[tuple[Cell, ...]]:
    rows, matched = study.ablation.rows, study.ablation.study.match != "none"
    if not matched:
        yield Label("Multiply-adds", ""), *(_figure(row.cost, "macs") for row in rows)
    hint = "% ± 95 % interval" if study.seeds > 1 else "%, one seed"
    yield Label("Same budget: top-1" if matched else "Top-1", hint), *(_rounded(row, accuracy_text) for row in rows)
    points = ("baseline" if is_baseline(study.ablation, row) else _rounded(row, points_text) for row in rows)
    yield Label("Difference", "points, paired by seed"), *points


def _rounded(row: Row, text: Callable[..., str | None]) -> Cell:
    return Rounded(text(row.accuracy, 1) or "", text(row.accuracy) or "") if row.accuracy else None


def _conclusion(study: TrainedAblation) -> str:
    match = study.ablation.study.match
    kind = "With different budgets" if match == "none" else f"At the same {QUANTITIES[match]}"
    sentence = " ".join(conclusions(study.ablation)) or "one seed per row shows no differences."
    return f"{kind}: {sentence[0].lower()}{sentence[1:]}"

"""The result of a search: the best networks within the limits, and the published ones with their published accuracy."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from mpvit.architecture.config import TRAINED_SIZE, ModelConfig
from mpvit.search.criteria import get_criterion
from mpvit.search.results import Candidate, PublishedVariant, RankedCandidate, SearchResult, TrainedCandidates
from mpvit.search.space import choices_text, stages_text
from mpvit.tables import Document, Field, build, known
from mpvit.tables.accuracy import accuracy_note, accuracy_text, points_text
from mpvit.tables.number_text import median, quartiles, ran_on, trouble, warnings
from mpvit.units import grouped, times

_SHAPE = {"paths": "Paths", "layers": "Layers", "dim": "Width", "mlp_ratio": "MLP ratio", "heads": "Heads"}
"""Headers of the fields of a stage that a search chooses."""


def search_document(found: SearchResult) -> Document:
    """Return the candidates and the published variants, with notes on both."""
    study = found.study
    limits = f" within {study.limits.text()}" if study.limits.given() else ""
    title = (
        f"{len(found.candidates)} of {grouped(found.kept)} networks{limits}, by {study.criterion}; "
        f"input {times((1, 3, *study.size))}, MACs by convention {study.convention}"
    )
    published = "Published variants, with their published ImageNet-1K accuracy"
    candidates = [build(title, list(_fields(found)), found.ranked)] if found.candidates else []
    tables = (*candidates, build(published, _PUBLISHED, found.published))
    measured = next((row.time for row in found.ranked if row.time), None)
    return Document("search", tuple(_rows(found)), tables, tuple(_notes(found)), *ran_on(measured))


_COST: tuple[Field[Any], ...] = (
    Field("MACs", lambda row: row.candidate.macs),
    Field("Params", lambda row: row.candidate.params),
    Field("Activations", lambda row: row.candidate.activations, optional=True),
)


def _fields(found: SearchResult) -> Iterator[Field[RankedCandidate]]:
    limits, timed = found.study.limits.given(), found.max_latency_s is not None
    yield Field("#", lambda row: row.rank)
    if found.trained:
        yield Field("top-1", lambda row: known(row.accuracy, accuracy_text))
        yield Field("Δ to #1, points", lambda row: points_text(row.accuracy) if row.rank > 1 else None)
        yield Field("Verdict", lambda row: row.accuracy.verdict if row.accuracy and row.rank > 1 else "", numeric=False)
        yield Field(f"# by {found.study.criterion}", lambda row: row.by_criterion, optional=True)
    for field in _COST:
        yield field
        if limit := limits.get(name := field.header.lower()):
            yield Field(f"% of max {name}", partial(_share, name, limit), optional=True)
    for name, header in _SHAPE.items():
        yield Field(header, partial(_stages, name), numeric=False, optional=name == "heads" or (timed and name == "mlp_ratio"))
    if timed:
        yield Field("ms", lambda row: median(row.time))
        yield Field("Quartiles ms", lambda row: quartiles(row.time), optional=True)
        yield Field("Within", _within, numeric=False)


def _share(name: str, limit: int, row: RankedCandidate) -> str:
    return f"{100 * getattr(row.candidate, name) / limit:.1f}"


def _stages(name: str, row: RankedCandidate | PublishedVariant) -> str:
    return stages_text(row.candidate.config, name)


def _within(row: RankedCandidate) -> str:
    if row.within is None:
        return trouble(row.time) or "not measured"
    return "✓" if row.within else "✗"


_PUBLISHED: tuple[Field[PublishedVariant], ...] = (
    Field("Variant", lambda row: row.name, numeric=False),
    *_COST,
    *(Field(header, partial(_stages, name), numeric=False, optional=True) for name, header in _SHAPE.items()),
    Field("Top-1 %", lambda row: f"{row.accuracy.top1:.3f}"),
    Field("Top-5 %", lambda row: f"{row.accuracy.top5:.3f}"),
)


def _rows(found: SearchResult) -> Iterator[dict[str, Any]]:
    """Yield flat rows; ``table`` tells what each is: the space, a candidate, a network of the front, a published variant."""
    yield _space_row(found)
    for row in found.ranked:
        measured = replace(row.time, name="").as_row() if row.time else {}
        within = {} if found.max_latency_s is None else {"within_max_latency": row.within}
        trained = {"rank_by_criterion": row.by_criterion, **row.accuracy.as_row()} if row.accuracy else {}
        yield {"table": "candidates", "rank": row.rank, **_candidate_row(row.candidate), **trained, **measured, **within}
    for candidate in found.front:
        yield {"table": "front", **_candidate_row(candidate)}
    for name, candidate, accuracy in found.published:
        percent = {"top1_percent": accuracy.top1, "top5_percent": accuracy.top5, "accuracy_source": accuracy.source}
        yield {"table": "published", "model": name, **_candidate_row(candidate), **percent}


def _space_row(found: SearchResult) -> dict[str, Any]:
    study = found.study
    return {
        "table": "space",
        **{f"{name}_choices": choices_text(choices) for name, choices in study.space.choices().items()},
        "networks": study.networks,
        "examined": found.examined,
        "within_limits": found.kept,
        "max_macs": study.limits.macs,
        "max_params": study.limits.params,
        "max_latency_s": found.max_latency_s,
        "criterion": study.criterion,
        "criterion_meaning": get_criterion(study.criterion).what,
        "input_shape": [1, 3, *study.size],
        "convention": study.convention,
    }


def _candidate_row(candidate: Candidate) -> dict[str, Any]:
    figures = candidate._asdict()
    config: ModelConfig = figures.pop("config")
    return figures | {name: stages_text(config, name) for name in _SHAPE}


def _notes(found: SearchResult) -> Iterator[str]:
    study = found.study
    if not found.finished:
        yield (
            f"Interrupted: {grouped(found.examined)} of {grouped(study.networks)} networks were examined; these are the best "
            "of them."
        )
    criterion = f"{study.criterion}: {get_criterion(study.criterion).what}"
    if found.trained:
        yield from _trained_notes(found.trained, criterion)
    else:
        yield f"Ranked by {criterion}. This does not predict accuracy: a candidate has none until it is trained."
    yield _space_note(found)
    yield (
        f"Pareto front: {len(found.front)} networks. Each has more parameters than any other network within the limits that "
        "has as few MACs; the figure shows it, JSON lists it."
    )
    yield (
        f"Only the published variants have an accuracy, at {times((TRAINED_SIZE,) * 2)}: {found.published[0].accuracy.source}."
    )
    yield from _latency_notes(found)


def _trained_notes(trained: TrainedCandidates, criterion: str) -> Iterator[str]:
    usual = f"the recipe {trained.recipe} has {trained.usual_epochs} by default"
    budget = f"a small budget, {usual}: more may change the order" if trained.epochs < trained.usual_epochs else usual
    yield (
        f"Ranked by the accuracy after {trained.epochs} epochs on {trained.data} ({budget}). The candidates are the best by "
        f"{criterion}; no other network was trained."
    )
    yield accuracy_note(trained.accuracies[0].images, len(trained.accuracies[0].shares))
    yield (
        "Δ is the difference from the first candidate. The same runs chose it, which favours it: consider the candidates that "
        "show no difference from it too."
    )


def _space_note(found: SearchResult) -> str:
    space = found.study.space
    choices = "; ".join(f"{_SHAPE[name]} {choices_text(each)}" for name, each in space.choices().items())
    refused = f"; {space.left_out} choices make no stage" if space.left_out else ""
    return f"Space: {grouped(found.study.networks)} networks, no stage narrower than the one before: {choices}{refused}."


def _latency_notes(found: SearchResult) -> Iterator[str]:
    if found.max_latency_s is None:
        return
    measured = [row.time for row in found.ranked if row.time]
    within = sum(row.within is True for row in found.ranked)
    yield (
        f"Latency: the median. {len(measured)} of {len(found.ranked)} candidates were measured on this machine, one after "
        f"another, at batch 1; {within} are within {1e3 * found.max_latency_s:g} ms. No other network was measured."
    )
    yield from warnings(measured)

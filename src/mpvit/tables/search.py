"""What a search has found: the best networks within the limits, and the published ones with their published accuracy."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from mpvit.config import TRAINED_SIZE, ModelConfig
from mpvit.search.criteria import get_criterion
from mpvit.search.found import Candidate, Found, Published
from mpvit.search.outcome import Outcome, Ranked, Trial
from mpvit.search.space import choices_text, stages_text
from mpvit.tables import Document, Field, build
from mpvit.tables.accuracy import accuracy_note, accuracy_text, points_text
from mpvit.tables.measured import milliseconds, quartiles, warnings
from mpvit.units import grouped, times

_SHAPE = {"paths": "Paths", "layers": "Layers", "dim": "Width", "mlp_ratio": "MLP ratio", "heads": "Heads"}
"""The fields of a stage that a space chooses, and their columns."""


def search_document(outcome: Outcome) -> Document:
    """Return the candidates, the published variants, and what both are."""
    found = outcome.found
    study = found.study
    limits = f" within {study.limits.text()}" if study.limits.given() else ""
    title = (
        f"{len(found.best)} of {grouped(found.kept)} networks{limits}, by {study.criterion}; "
        f"input {times((1, 3, *study.size))}, MACs by convention {study.convention}"
    )
    published = "Published variants, with their published ImageNet-1K accuracy"
    candidates = [build(title, list(_fields(outcome)), outcome.ranked)] if found.best else []
    tables = (*candidates, build(published, list(_published_fields()), found.published))
    measured = next((row.time for row in outcome.ranked if row.time), None)
    return Document(
        "search",
        tuple(_rows(outcome)),
        tables,
        tuple(_notes(outcome)),
        measured.device if measured else None,
        measured.threads if measured else None,
        measured.dtype if measured else None,
    )


# ── tables ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fields(outcome: Outcome) -> Iterator[Field[Ranked]]:
    yield Field("#", lambda row: row.rank)
    if outcome.trial:
        yield Field("top-1", lambda row: accuracy_text(row.accuracy) if row.accuracy else None)
        yield Field("Δ to #1, points", lambda row: points_text(row.accuracy) if row.accuracy and row.rank > 1 else None)
        yield Field("says", lambda row: row.accuracy.verdict if row.accuracy and row.rank > 1 else "", numeric=False)
        yield Field(f"# by {outcome.found.study.criterion}", lambda row: row.by_criterion, optional=True)
    yield Field("MACs", lambda row: row.candidate.macs)
    for name in outcome.found.study.limits.given():
        yield Field(f"% of max {name}", _share(outcome, name), optional=True)
        if name == "macs":
            yield Field("Params", lambda row: row.candidate.params)
    if outcome.found.study.limits.macs is None:
        yield Field("Params", lambda row: row.candidate.params)
    yield Field("Activations", lambda row: row.candidate.activations, optional=True)
    spare = ("heads",) if outcome.max_latency_s is None else ("heads", "mlp_ratio")
    for name, header in _SHAPE.items():
        yield Field(header, _stages(name), numeric=False, optional=name in spare)
    if outcome.max_latency_s is not None:
        yield Field("ms", lambda row: milliseconds(row.time.median_s) if row.time else None)
        yield Field("Quartiles ms", lambda row: quartiles(row.time) if row.time else None, optional=True)
        yield Field("Within", _verdict, numeric=False)


def _share(outcome: Outcome, name: str) -> Callable[[Ranked], str]:
    limit = outcome.found.study.limits.given()[name]
    return lambda row: f"{100 * getattr(row.candidate, name) / limit:.1f}"


def _stages(name: str) -> Callable[[Ranked | Published], str]:
    return lambda row: stages_text(row.candidate.config, name)


def _verdict(row: Ranked) -> str:
    if row.within is None:
        return (row.time.error or row.time.stopped if row.time else "") or "not measured"
    return "✓" if row.within else "✗"


def _published_fields() -> Iterator[Field[Published]]:
    yield Field("Variant", lambda row: row.name, numeric=False)
    yield Field("MACs", lambda row: row.candidate.macs)
    yield Field("Params", lambda row: row.candidate.params)
    yield Field("Activations", lambda row: row.candidate.activations, optional=True)
    for name, header in _SHAPE.items():
        yield Field(header, _stages(name), numeric=False, optional=True)
    yield Field("Top-1 %", lambda row: f"{row.accuracy.top1:.3f}")
    yield Field("Top-5 %", lambda row: f"{row.accuracy.top5:.3f}")


# ── rows for machines ───────────────────────────────────────────────────────────────────────────────────────────────


def _rows(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Yield flat rows whose ``table`` says what each is: the space, a candidate, one of the front, a published variant."""
    found = outcome.found
    yield _space_row(outcome)
    for row in outcome.ranked:
        measured = replace(row.time, name="").as_row() if row.time else {}
        within = {} if outcome.max_latency_s is None else {"within_max_latency": row.within}
        trained = {"rank_by_criterion": row.by_criterion, **row.accuracy.as_row()} if row.accuracy else {}
        yield {"table": "candidates", "rank": row.rank, **_candidate_row(row.candidate), **trained, **measured, **within}
    for candidate in found.front:
        yield {"table": "front", **_candidate_row(candidate)}
    for name, candidate, accuracy in found.published:
        percent = {"top1_percent": accuracy.top1, "top5_percent": accuracy.top5, "accuracy_source": accuracy.source}
        yield {"table": "published", "model": name, **_candidate_row(candidate), **percent}


def _space_row(outcome: Outcome) -> dict[str, Any]:
    found = outcome.found
    study = found.study
    return {
        "table": "space",
        **{f"{name}_choices": choices_text(choices) for name, choices in study.space.choices().items()},
        "networks": study.networks,
        "examined": found.examined,
        "within_limits": found.kept,
        "max_macs": study.limits.macs,
        "max_params": study.limits.params,
        "max_latency_s": outcome.max_latency_s,
        "criterion": study.criterion,
        "criterion_meaning": get_criterion(study.criterion).what,
        "input_shape": [1, 3, *study.size],
        "convention": study.convention,
    }


def _candidate_row(candidate: Candidate) -> dict[str, Any]:
    return {
        "macs": candidate.macs,
        "params": candidate.params,
        "activations": candidate.activations,
        **_shape_row(candidate.config),
    }


def _shape_row(config: ModelConfig) -> dict[str, Any]:
    return {name: stages_text(config, name) for name in _SHAPE}


# ── notes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _notes(outcome: Outcome) -> Iterator[str]:
    found = outcome.found
    study = found.study
    if not found.finished:
        searched = f"{grouped(found.examined)} of {grouped(study.networks)} networks"
        yield f"Interrupted: {searched} searched; this is the best of those."
    kept = f"{study.criterion}: {get_criterion(study.criterion).what}"
    if outcome.trial:
        yield from _trial_notes(outcome.trial, kept)
    else:
        yield f"Ranked by {kept}. Nothing here predicts accuracy: a candidate has none until it is trained."
    yield _space_note(found)
    yield (
        f"Pareto front: {len(found.front)} networks, each with more parameters than any other within the limits that has as "
        "few MACs; --plot draws it, JSON lists it."
    )
    yield f"Accuracy is of the published variants alone, at {times((TRAINED_SIZE,) * 2)}: {found.published[0].accuracy.source}."
    yield from _latency_notes(outcome)


def _trial_notes(trial: Trial, kept: str) -> Iterator[str]:
    seeds, images = len(trial.accuracies[0].shares), trial.accuracies[0].images
    share = f"the recipe {trial.recipe} by itself takes {trial.usual_epochs}"
    small = f"a small budget, {share}: with more the order may change" if trial.epochs < trial.usual_epochs else share
    yield (
        f"Ranked by what {trial.epochs} epochs on {trial.data} come to ({small}). Kept were the best by {kept}; "
        "no other network was trained."
    )
    yield (
        f"{accuracy_note(images, seeds)} Δ is to the first, which the same runs chose: that favours it, so look at what is "
        "no different from it too."
    )


def _space_note(found: Found) -> str:
    space = found.study.space
    choices = "; ".join(f"{_SHAPE[name]} {choices_text(each)}" for name, each in space.choices().items())
    refused = f"; {space.left_out} choices make no stage" if space.left_out else ""
    return f"Space: {grouped(found.study.networks)} networks, no stage narrower than the one before: {choices}{refused}."


def _latency_notes(outcome: Outcome) -> Iterator[str]:
    if outcome.max_latency_s is None:
        return
    measured = [row for row in outcome.ranked if row.time]
    within = sum(row.within is True for row in outcome.ranked)
    yield (
        f"Latency, the median: {len(measured)} of {len(outcome.ranked)} candidates were measured on this machine, one after "
        f"the other, at batch 1; {within} within {1e3 * outcome.max_latency_s:g} ms. No other network was timed."
    )
    yield from warnings([row.time for row in measured if row.time])

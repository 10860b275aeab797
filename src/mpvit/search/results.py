"""The result of a search: the candidates and the Pareto front, each counted as a whole, and the published variants."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import nlargest
from typing import NamedTuple

from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import VARIANTS, PublishedAccuracy
from mpvit.counting import count
from mpvit.errors import MpvitError, UsageError
from mpvit.measurement import Measurement
from mpvit.search.examine import Batch, Point, pareto_front, point_key
from mpvit.search.space import shape_text
from mpvit.search.study import SearchStudy
from mpvit.training.metrics import AccuracyComparison
from mpvit.units import grouped


class Candidate(NamedTuple):
    """A network and its cost on one image."""

    config: ModelConfig
    macs: int
    params: int
    activations: int


class PublishedVariant(NamedTuple):
    """A published variant with its cost under the convention and size of the study, and its published accuracy."""

    name: str
    candidate: Candidate
    accuracy: PublishedAccuracy


class TrainedCandidates(NamedTuple):
    """The accuracies of candidates that were all trained alike, in their order, compared with the best of them.

    ``usual_epochs`` is the default number of epochs of the recipe.
    """

    data: str
    epochs: int
    usual_epochs: int
    recipe: str
    accuracies: tuple[AccuracyComparison, ...]


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """One candidate; its rank is by accuracy if the candidates were trained, else by the criterion, and 1 is the best.

    ``time``, and whether it is ``within`` the limit, are None if it was not measured, ``accuracy`` if it was not trained.
    """

    rank: int
    candidate: Candidate
    by_criterion: int
    time: Measurement | None
    within: bool | None
    accuracy: AccuracyComparison | None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search.

    Attributes:
        examined: number of networks that were counted or excluded by a bound; all networks if the search was not interrupted.
        kept: number of networks within the limits.
        candidates: the best networks within the limits, in the order of the criterion.
        front: networks with more parameters than every other network of at most their MACs, in the order of the MACs.
        published: the published variants, within the limits or not.
        times: latencies of the first candidates, in their order.
    """

    study: SearchStudy
    examined: int
    kept: int
    candidates: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    published: tuple[PublishedVariant, ...]
    max_latency_s: float | None = None
    times: tuple[Measurement, ...] = ()
    trained: TrainedCandidates | None = None

    @property
    def finished(self) -> bool:
        """Whether the whole space was examined."""
        return self.examined == self.study.networks

    @property
    def ranked(self) -> tuple[RankedCandidate, ...]:
        """The candidates, the best first."""
        rows = [self._ranked(index, candidate) for index, candidate in enumerate(self.candidates)]
        if self.trained:
            rows.sort(key=lambda row: -row.accuracy.mean if row.accuracy else 0)
        return tuple(replace(row, rank=rank) for rank, row in enumerate(rows, start=1))

    def _ranked(self, index: int, candidate: Candidate) -> RankedCandidate:
        time = self.times[index] if index < len(self.times) else None
        median_s = time.median_s if time else None
        within = None if median_s is None or self.max_latency_s is None else median_s <= self.max_latency_s
        accuracy = self.trained.accuracies[index] if self.trained else None
        return RankedCandidate(index + 1, candidate, index + 1, time, within, accuracy)

    @property
    def best(self) -> RankedCandidate | None:
        """The best candidate within every limit; None if none is known to be within the limit of the latency."""
        return next((row for row in self.ranked if row.within or not self.times), None)

    def pick(self, rank: int) -> RankedCandidate:
        """Return the candidate of this rank; raise ``UsageError`` if there is none."""
        ranked = self.ranked
        if not 1 <= rank <= len(ranked):
            raise UsageError(f"pick = {rank}: must be from 1 to {len(ranked)}, the number of candidates")
        return ranked[rank - 1]

    def too_slow(self) -> MpvitError:
        """Return the error for a search in which no candidate is within the limit of the latency."""
        medians = [(row.time.median_s, row.rank) for row in self.ranked if row.time and row.time.median_s]
        limit = f"{1e3 * (self.max_latency_s or 0):g} ms"
        if not medians:
            return MpvitError(f"no candidate could be measured, so none is known to be within {limit}")
        fastest, rank = min(medians)
        return MpvitError(
            f"none of the {len(medians)} candidates measured is within {limit}: the fastest, #{rank}, "
            f"takes {1e3 * fastest:.3g} ms",
            hint="raise the maximum latency, lower the maximum MACs, or measure more candidates",
        )


def search_result(study: SearchStudy, batches: Sequence[Batch]) -> SearchResult:
    """Return the result of ``batches``: all batches of ``examine``, or those before an interruption."""
    best = nlargest(study.top, (point for batch in batches for point in batch.best), point_key(study.rank))
    front = pareto_front([point for batch in batches for point in batch.front])
    return SearchResult(
        study,
        sum(batch.examined for batch in batches),
        sum(batch.kept for batch in batches),
        _candidates(study, best),
        _candidates(study, front),
        tuple(PublishedVariant(name, _counted(study, v.config), v.accuracy) for name, v in VARIANTS.items()),
    )


def nothing_within_limits(study: SearchStudy, batches: Sequence[Batch]) -> MpvitError:
    """Return the error for a search without a network within the limits; ``batches`` are of ``examine_without_limits``."""
    point = max((point for batch in batches for point in batch.best), key=point_key(study.limits.nearness))
    (nearest,) = _candidates(study, [point])
    shares = {name: getattr(nearest, name) / limit for name, limit in study.limits.given().items()}
    worst = max(shares, key=lambda name: shares[name])
    return MpvitError(
        f"none of the {grouped(study.networks)} networks is within {study.limits.text()}: the nearest has "
        f"{grouped(nearest.macs)} MACs and {grouped(nearest.params)} parameters, {shares[worst]:.3g} × max {worst}: "
        f"{shape_text(nearest.config)}",
        hint=f"raise max {worst}, or give the space smaller choices of width, layers, paths or MLP ratio",
    )


def _candidates(study: SearchStudy, points: Sequence[Point]) -> tuple[Candidate, ...]:
    """Return the networks of ``points``, each counted as a whole."""
    stages, found = study.space.stages(), []
    for macs, params, indices in points:
        chosen = tuple(choices[index] for choices, index in zip(stages, indices, strict=True))
        candidate = _counted(study, ModelConfig(chosen, num_classes=study.classes))
        assert candidate[1:3] == (macs, params), "the sum of the table entries is the count"  # noqa: S101 - an invariant
        found.append(candidate)
    return tuple(found)


def _counted(study: SearchStudy, config: ModelConfig) -> Candidate:
    counted = count(config, study.size, convention=study.convention)
    assert counted.macs is not None and counted.params is not None and counted.activations is not None  # noqa: S101, PT018
    return Candidate(config, counted.macs, counted.params, counted.activations)

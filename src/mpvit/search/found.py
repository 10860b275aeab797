"""What a search has found: the best networks within the limits, and the Pareto front; each counted once more as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import NamedTuple

from mpvit.config import ModelConfig
from mpvit.counting import count
from mpvit.errors import MpvitError
from mpvit.search.examine import Batch, Point, by_key, front_of
from mpvit.search.space import stages_text
from mpvit.search.study import Study
from mpvit.units import grouped
from mpvit.variants import VARIANTS, PublishedAccuracy


class Candidate(NamedTuple):
    """A network and what it costs on one image."""

    config: ModelConfig
    macs: int
    params: int
    activations: int


class Published(NamedTuple):
    """A published variant, what it costs under the study's convention and size, and how accurate its authors found it."""

    name: str
    candidate: Candidate
    accuracy: PublishedAccuracy


@dataclass(frozen=True, slots=True)
class Found:
    """What a search has found.

    Attributes:
        study: what was searched for.
        examined: networks counted or, under a bound, ruled out; all of the space where the search was finished.
        kept: how many of them are within the limits.
        best: the best of those by the criterion, the best first.
        front: those that have more parameters than any other found with as many MACs or fewer, by MACs.
        published: the published variants, within the limits or not.
    """

    study: Study
    examined: int
    kept: int
    best: tuple[Candidate, ...]
    front: tuple[Candidate, ...]
    published: tuple[Published, ...]

    @property
    def finished(self) -> bool:
        """Whether all of the space was examined."""
        return self.examined == self.study.networks


def gather(study: Study, batches: Sequence[Batch]) -> Found:
    """Return what ``batches`` of ``examine`` come to, be they all of the space or what there was until an interruption."""
    best = nlargest(study.top, (point for batch in batches for point in batch.best), by_key(study.rank))
    front = front_of([point for batch in batches for point in batch.front])
    return Found(
        study,
        sum(batch.examined for batch in batches),
        sum(batch.kept for batch in batches),
        _candidates(study, best),
        _candidates(study, front),
        tuple(Published(name, _counted(study, v.config), v.accuracy) for name, v in VARIANTS.items()),
    )


def nothing_found(study: Study, batches: Sequence[Batch]) -> MpvitError:
    """Return the error for a space with nothing within the limits; ``batches`` are those of ``approach``."""
    (point,) = nlargest(1, (point for batch in batches for point in batch.best), by_key(study.limits.nearness))
    (nearest,) = _candidates(study, [point])
    over = {name: getattr(nearest, name) / limit for name, limit in study.limits.given().items()}
    worst = max(over, key=lambda name: over[name])
    return MpvitError(
        f"none of the {grouped(study.networks)} networks is within {study.limits.text()}: the nearest has "
        f"{grouped(nearest.macs)} MACs and {grouped(nearest.params)} parameters, {over[worst]:.3g} × --max-{worst}: "
        f"{shape_text(nearest.config)}",
        hint=f"raise --max-{worst}, or give the space smaller choices: --width, --layers, --paths, --mlp-ratio",
    )


def shape_text(config: ModelConfig) -> str:
    """Return a network's paths, layers, widths, MLP ratios and heads, stage by stage."""
    names = {"paths": "paths", "layers": "layers", "dim": "width", "mlp_ratio": "MLP ratio", "heads": "heads"}
    return ", ".join(f"{what} {stages_text(config, name)}" for name, what in names.items())


def _candidates(study: Study, points: Sequence[Point]) -> tuple[Candidate, ...]:
    """Return the networks of ``points``, counted once more as a whole."""
    stages = study.space.stages()
    found = []
    for point in points:
        chosen = tuple(choices[number] for choices, number in zip(stages, point[2], strict=True))
        config = ModelConfig(chosen, num_classes=study.classes)
        candidate = _counted(study, config)
        assert candidate[1:3] == point[:2], "the sum of look-ups is the count"  # noqa: S101 - an internal invariant
        found.append(candidate)
    return tuple(found)


def _counted(study: Study, config: ModelConfig) -> Candidate:
    counted = count(config, study.size, convention=study.convention)
    assert counted.macs is not None and counted.params is not None and counted.activations is not None  # noqa: S101, PT018
    return Candidate(config, counted.macs, counted.params, counted.activations)

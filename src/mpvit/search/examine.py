"""The examination of a space: each network is counted by a sum of table entries, or excluded with others by a lower bound."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import pairwise, product
from math import inf
from typing import NamedTuple

from mpvit.search.costs import StageCost, Table, cost_tables
from mpvit.search.criteria import Key, Limits
from mpvit.search.study import SearchStudy

Rank = Callable[[int, int], Key]
"""(MACs, parameters) -> sort key."""

_MAX_HELD = 50_000
"""Number of networks within the limits that are held at once before only the best and the front are kept."""

Point = tuple[int, int, tuple[int, ...]]
"""A network: its MACs, its parameters, and the index of the choice of each stage."""


class Batch(NamedTuple):
    """The networks that have all stages but the last two in common: their number, and the number within the limits.

    ``best`` and ``front`` are those among the best, and on the Pareto front, of all networks so far.
    """

    examined: int
    kept: int
    best: list[Point]
    front: list[Point]


def examine(study: SearchStudy) -> Iterator[Batch]:
    """Yield the batches of the space of the study."""
    yield from _batches(study, study.limits, study.rank, study.top)


def examine_without_limits(study: SearchStudy) -> Iterator[Batch]:
    """Yield the batches with the network that exceeds the limits least, for a study without any network within the limits."""
    yield from _batches(study, Limits(), study.limits.nearness, 1)


def point_key(rank: Rank) -> Callable[[Point], tuple[Key, tuple[int, ...]]]:
    """Return the sort key of points: ``rank`` of their cost, and among equals the indices of their choices."""
    return lambda point: (rank(point[0], point[1]), point[2])


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Return the points with more parameters than every other point of at most their MACs, in the order of the MACs."""
    front: list[Point] = []
    most = -1
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if point[1] > most:
            most = point[1]
            front.append(point)
    return front


class _LastStage(NamedTuple):
    """The choices (MACs, parameters, channels, index) of the last stage that may follow a stage, with their lowest costs."""

    choices: list[tuple[int, int, int, int]]
    min_macs: int
    min_params: int


def _last_stage(table: Table, dim: int) -> _LastStage:
    choices = [(c.macs, c.params, c.dim, index) for index, c in enumerate(table) if c.dim >= dim]
    return _LastStage(choices, min((c[0] for c in choices), default=0), min((c[1] for c in choices), default=0))


def _batches(study: SearchStudy, limits: Limits, rank: Rank, top: int) -> Iterator[Batch]:
    *first, third, last = cost_tables(study.space.stages(), study.size, study.convention, study.classes)
    last_stages = {choice.dim: _last_stage(last, choice.dim) for choice in third}
    best: list[Point] = []
    front: list[Point] = []
    for indices in product(*(range(len(table)) for table in first)):
        before = [table[index] for table, index in zip(first, indices, strict=True)]
        if any(choice.dim > following.dim for choice, following in pairwise(before)):
            continue
        kept = 0
        for points in _within(before, indices, third, last_stages, limits):
            kept += len(points)
            best = nlargest(top, best + points, point_key(rank))
            front = pareto_front(front + points)
        examined = sum(len(last_stages[choice.dim].choices) for choice in third if choice.dim >= before[-1].dim)
        new_best, new_front = ([point for point in points if point[2][: len(indices)] == indices] for points in (best, front))
        yield Batch(examined, kept, new_best, new_front)


def _within(
    before: Sequence[StageCost],
    indices: tuple[int, ...],
    third: Table,
    last_stages: Mapping[int, _LastStage],
    limits: Limits,
) -> Iterator[list[Point]]:
    """Yield the networks within the limits that have the stages ``before``, some at a time."""
    max_macs, max_params = (inf if limit is None else limit for limit in (limits.macs, limits.params))
    macs_before = sum(c.macs for c in before) + sum(c.out_macs * following.dim for c, following in pairwise(before))
    params_before = sum(c.params for c in before) + sum(c.out_params * following.dim for c, following in pairwise(before))
    previous = before[-1]
    found: list[Point] = []
    for index, choice in enumerate(third):
        if choice.dim < previous.dim:
            continue
        macs = macs_before + previous.out_macs * choice.dim + choice.macs
        params = params_before + previous.out_params * choice.dim + choice.params
        out_macs, out_params = choice.out_macs, choice.out_params
        last = last_stages[choice.dim]
        min_macs, min_params = macs + last.min_macs + out_macs * choice.dim, params + last.min_params + out_params * choice.dim
        if min_macs > max_macs or min_params > max_params:
            continue
        found += [
            (all_macs, all_params, (*indices, index, last_index))
            for own_macs, own_params, dim, last_index in last.choices
            if (all_macs := macs + own_macs + out_macs * dim) <= max_macs
            and (all_params := params + own_params + out_params * dim) <= max_params
        ]
        if len(found) > _MAX_HELD:
            yield found
            found = []
    yield found

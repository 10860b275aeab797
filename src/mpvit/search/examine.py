"""Going through a space: each network is counted by sums of look-ups, or ruled out with others like it by a bound."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from heapq import nlargest
from itertools import pairwise, product
from math import inf
from typing import NamedTuple

from mpvit.search.costs import Choice, Table, tables
from mpvit.search.criteria import Key, Limits
from mpvit.search.study import Study

Rank = Callable[[int, int], Key]

_HELD = 50_000
"""Networks within the limits that are held at once before all but the best and the front of them are let go."""


Point = tuple[int, int, tuple[int, ...]]
"""A network: its MACs, its parameters, and the number of each stage's choice."""


class Batch(NamedTuple):
    """The networks with the same first stages: how many, and how many within the limits.

    ``best`` and ``front`` are those of them that were among the best, and on the front, of all networks so far.
    """

    examined: int
    kept: int
    best: list[Point]
    front: list[Point]


def examine(study: Study) -> Iterator[Batch]:
    """Yield batch after batch of the study's space; all of them cover it."""
    yield from _batches(study, study.limits, study.rank, study.top)


def approach(study: Study) -> Iterator[Batch]:
    """Yield batches whose best is the network least over the limits, for a space with nothing within them."""
    yield from _batches(study, Limits(), study.limits.nearness, 1)


def by_key(rank: Rank) -> Callable[[Point], tuple[Key, tuple[int, ...]]]:
    """Return the order of points: by ``rank`` of their MACs and parameters, of equals the earlier choices last."""
    return lambda point: (rank(point[0], point[1]), point[2])


def front_of(points: Sequence[Point]) -> list[Point]:
    """Return those with more parameters than any other with as many MACs or fewer, by MACs."""
    front: list[Point] = []
    most = -1
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if point[1] > most:
            most = point[1]
            front.append(point)
    return front


def _batches(study: Study, limits: Limits, rank: Rank, top: int) -> Iterator[Batch]:
    *first, third, last = tables(study.space.stages(), study.size, study.convention, study.classes)
    behind = {choice.dim: _Behind(last, choice.dim) for choice in third}
    best: list[Point] = []
    front: list[Point] = []
    for numbers in product(*(range(len(table)) for table in first)):
        before = [table[number] for table, number in zip(first, numbers, strict=True)]
        if any(choice.dim > wider.dim for choice, wider in pairwise(before)):
            continue
        kept = 0
        for points in _within(before, numbers, third, behind, limits):
            kept += len(points)
            best = nlargest(top, best + points, by_key(rank))
            front = front_of(front + points)
        examined = sum(len(behind[choice.dim].choices) for choice in third if choice.dim >= before[-1].dim)
        yield Batch(examined, kept, _new(best, numbers), _new(front, numbers))


def _new(points: Sequence[Point], numbers: tuple[int, ...]) -> list[Point]:
    """Return those whose first stages have these choices."""
    return [point for point in points if point[2][: len(numbers)] == numbers]


class _Behind:
    """The last stage's choices behind a stage of ``dim`` channels, with the least that any of them costs."""

    def __init__(self, last: Table, dim: int) -> None:
        self.choices = [(c.macs, c.params, c.dim, number) for number, c in enumerate(last) if c.dim >= dim]
        self.least_macs = min((macs for macs, *_ in self.choices), default=0)
        self.least_params = min((params for _, params, *_ in self.choices), default=0)


def _within(
    before: Sequence[Choice], numbers: tuple[int, ...], third: Table, behind: Mapping[int, _Behind], limits: Limits
) -> Iterator[list[Point]]:
    """Yield, some at a time, the networks within the limits that have these first stages."""
    most_macs, most_params = (inf if limit is None else limit for limit in (limits.macs, limits.params))
    macs_before = sum(c.macs for c in before) + sum(c.macs_out * wider.dim for c, wider in pairwise(before))
    params_before = sum(c.params for c in before) + sum(c.params_out * wider.dim for c, wider in pairwise(before))
    hands_on = before[-1]
    found: list[Point] = []
    for place, choice in enumerate(third):
        if choice.dim < hands_on.dim:
            continue
        macs = macs_before + hands_on.macs_out * choice.dim + choice.macs
        params = params_before + hands_on.params_out * choice.dim + choice.params
        each_macs, each_params, rest = choice.macs_out, choice.params_out, behind[choice.dim]
        if (
            macs + rest.least_macs + each_macs * choice.dim > most_macs
            or params + rest.least_params + each_params * choice.dim > most_params
        ):
            continue
        found += [
            (all_macs, all_params, (*numbers, place, number))
            for own_macs, own_params, dim, number in rest.choices
            if (all_macs := macs + own_macs + each_macs * dim) <= most_macs
            and (all_params := params + own_params + each_params * dim) <= most_params
        ]
        if len(found) > _HELD:
            yield found
            found = []
    yield found

"""The fair comparison: turn one knob until an edited network meets the baseline's budget as closely as it can."""

from collections.abc import Callable, Iterator
from itertools import combinations, product

from mpvit.ablation.knobs import Knob, scaled, steps, turned
from mpvit.config import ModelConfig
from mpvit.errors import UsageError

TOLERANCE = 0.01
"""A row that is further from its budget, as a share of it, is no fair comparison."""

_LARGEST_FACTOR = 2.0**10
_BISECTIONS = 20
_APART = 2
"""Stages that may be one step away from the common factor at once: enough to meet a budget, and no other network."""


def meet(config: ModelConfig, knob: Knob, budget: float, cost: Callable[[ModelConfig], int]) -> tuple[ModelConfig, int]:
    """Return ``config`` with ``knob`` turned so that its ``cost`` is as near ``budget`` as can be, and that cost.

    Every stage's amount is multiplied by one common factor and rounded to its step; of these networks, and of those with
    up to two stages one step above or below, the nearest is taken. ``cost`` must rise with the knob.
    Raises ``UsageError`` where the network cannot be turned at all.
    """
    own = tuple(knob.read(stage) for stage in config.stages)
    unturned = cost(config)
    if unturned == budget:
        return config, unturned
    tried: dict[tuple[int, ...], int | None] = {own: unturned}

    def found(amounts: tuple[int, ...]) -> int | None:
        if amounts not in tried:
            try:
                tried[amounts] = cost(turned(config, knob, amounts))
            except UsageError:  # beyond what a configuration may have
                tried[amounts] = None
        return tried[amounts]

    def below(factor: float) -> bool:
        reached = found(scaled(config, knob, factor))
        return reached is not None and reached < budget

    low, high = _bracket(below)
    for factor in (low, high):
        for amounts in _around(scaled(config, knob, factor), steps(config, knob)):
            found(amounts)
    met = {amounts: reached for amounts, reached in tried.items() if reached is not None}
    nearest = min(met, key=lambda amounts: abs(met[amounts] - budget))
    return turned(config, knob, nearest), met[nearest]


def _bracket(below: Callable[[float], bool]) -> tuple[float, float]:
    """Return two close factors, the budget between what they give, or the nearer end where it is out of reach."""
    low = high = 1.0
    while below(high) and high < _LARGEST_FACTOR:
        high *= 2
    while not below(low) and low > 1 / _LARGEST_FACTOR:
        low /= 2
    for _ in range(_BISECTIONS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if below(middle) else (low, middle)
    return low, high


def _around(amounts: tuple[int, ...], steps: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the amounts, and those with up to ``_APART`` stages one step higher or lower, none below one step."""
    yield amounts
    for count in range(1, _APART + 1):
        for stages in combinations(range(len(amounts)), count):
            for signs in product((-1, 1), repeat=count):
                moved = list(amounts)
                for stage, sign in zip(stages, signs, strict=True):
                    moved[stage] += sign * steps[stage]
                if all(amount >= step for amount, step in zip(moved, steps, strict=True)):
                    yield tuple(moved)

"""The fair comparison: an edited network is scaled with one knob until it costs as much as the baseline."""

from collections.abc import Callable, Iterator
from itertools import combinations, product

from mpvit.ablation.knobs import Knob, amount_steps, scaled_amounts, with_amounts
from mpvit.architecture.config import ModelConfig
from mpvit.errors import UsageError

TOLERANCE = 0.01
"""Largest distance of a row from its budget in a fair comparison, as a share of the budget."""

_MAX_FACTOR = 2.0**10
_BISECTIONS = 20

_MOVED_STAGES = 2
"""Number of stages that may be one step away from the common factor."""


def match_budget(config: ModelConfig, knob: Knob, budget: float, cost: Callable[[ModelConfig], int]) -> tuple[ModelConfig, int]:
    """Return ``config`` with the amounts of ``knob`` whose ``cost`` is nearest to ``budget``, and that cost.

    The amounts of all stages are multiplied by one factor and rounded to their steps. The candidates are these networks, and
    those with up to two stages one step above or below. ``cost`` must increase with the amounts.
    """
    own = tuple(knob.read(stage) for stage in config.stages)
    unchanged = cost(config)
    if unchanged == budget:
        return config, unchanged
    costs: dict[tuple[int, ...], int | None] = {own: unchanged}

    def cost_of(amounts: tuple[int, ...]) -> int | None:
        if amounts not in costs:
            try:
                costs[amounts] = cost(with_amounts(config, knob, amounts))
            except UsageError:  # outside the limits of a configuration
                costs[amounts] = None
        return costs[amounts]

    def is_below(factor: float) -> bool:
        reached = cost_of(scaled_amounts(config, knob, factor))
        return reached is not None and reached < budget

    for factor in _bracket(is_below):
        for amounts in _neighbours(scaled_amounts(config, knob, factor), amount_steps(config, knob)):
            cost_of(amounts)
    possible = {amounts: reached for amounts, reached in costs.items() if reached is not None}
    nearest = min(possible, key=lambda amounts: abs(possible[amounts] - budget))
    return with_amounts(config, knob, nearest), possible[nearest]


def _bracket(is_below: Callable[[float], bool]) -> tuple[float, float]:
    """Return two close factors with the budget between their costs, or the nearer limit if it cannot be reached."""
    low = high = 1.0
    while is_below(high) and high < _MAX_FACTOR:
        high *= 2
    while not is_below(low) and low > 1 / _MAX_FACTOR:
        low /= 2
    for _ in range(_BISECTIONS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low, high


def _neighbours(amounts: tuple[int, ...], steps: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the amounts, and those with up to ``_MOVED_STAGES`` stages one step higher or lower, none below one step."""
    yield amounts
    for count in range(1, _MOVED_STAGES + 1):
        for stages in combinations(range(len(amounts)), count):
            for signs in product((-1, 1), repeat=count):
                moved = list(amounts)
                for stage, sign in zip(stages, signs, strict=True):
                    moved[stage] += sign * steps[stage]
                if all(amount >= step for amount, step in zip(moved, steps, strict=True)):
                    yield tuple(moved)

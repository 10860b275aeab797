"""What candidates are ranked by. None predicts accuracy: each says how a network uses what the limits leave it."""

from collections.abc import Callable
from dataclasses import dataclass

from mpvit.errors import UsageError, unknown_name
from mpvit.units import grouped

Key = tuple[float, ...]
"""What networks are compared by; the largest is the best."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a network may cost: multiply-adds and parameters; None where there is no limit."""

    macs: int | None = None
    params: int | None = None

    def __post_init__(self) -> None:
        """Check every field once."""
        for name, limit in self.given().items():
            if limit < 1:
                raise UsageError(f"max {name} = {limit}: must be at least 1")

    def given(self) -> dict[str, int]:
        """Return the limits that there are."""
        return {name: limit for name, limit in (("macs", self.macs), ("params", self.params)) if limit is not None}

    def shares(self, macs: int, params: int) -> list[float]:
        """Return what share of each limit that there is a network takes; above 1 it is over the limit."""
        pairs = ((macs, self.macs), (params, self.params))
        return [amount / limit for amount, limit in pairs if limit is not None]

    def nearness(self, macs: int, params: int) -> Key:
        """Return the key that is largest for the network least over the limits."""
        return -max(self.shares(macs, params)), -macs, -params

    def text(self) -> str:
        """Return the limits as people read them."""
        names = {"macs": "MACs", "params": "parameters"}
        return " and ".join(f"{grouped(limit)} {names[name]}" for name, limit in self.given().items())


@dataclass(frozen=True, slots=True)
class Criterion:
    """One way to rank: what it prefers, in words, and the key of a network's (MACs, parameters) under the limits.

    ``limited`` tells whether it needs a limit.
    """

    what: str
    key: Callable[[int, int, Limits], Key]
    limited: bool = False


def _most_used(macs: int, params: int, limits: Limits) -> Key:
    return min(limits.shares(macs, params)), -macs, -params


def _most_params(macs: int, params: int, _: Limits) -> Key:
    return params, -macs


def _most_macs(macs: int, params: int, _: Limits) -> Key:
    return macs, -params


CRITERIA = {
    "budget": Criterion(
        "nearest to all limits at once (largest share of the limit it uses least), ties by fewest MACs",
        _most_used,
        limited=True,
    ),
    "params": Criterion("most parameters, ties by fewest MACs", _most_params),
    "macs": Criterion("most MACs, ties by fewest parameters", _most_macs),
}


def get_criterion(name: str) -> Criterion:
    """Return the criterion ``name``; raise ``UsageError`` with the nearest name for any other."""
    if name not in CRITERIA:
        raise unknown_name("criterion", name, CRITERIA)
    return CRITERIA[name]

"""The limits of a search, and the criteria that rank candidates. None predicts accuracy: each ranks the use of the limits."""

from collections.abc import Callable
from dataclasses import dataclass

from mpvit.errors import UsageError, unknown_name
from mpvit.units import grouped

Key = tuple[float, ...]
"""Sort key of a network; the largest key is the best."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The maximum number of multiply-adds and of parameters of a network; None for no limit."""

    macs: int | None = None
    params: int | None = None

    def __post_init__(self) -> None:
        """Check every field once."""
        for name, limit in self.given().items():
            if limit < 1:
                raise UsageError(f"max {name} = {limit}: must be at least 1")

    def given(self) -> dict[str, int]:
        """Return the limits that are not None, by name."""
        return {name: limit for name, limit in (("macs", self.macs), ("params", self.params)) if limit is not None}

    def shares(self, macs: int, params: int) -> list[float]:
        """Return the cost of a network as a share of each limit; above 1 if it exceeds the limit."""
        pairs = ((macs, self.macs), (params, self.params))
        return [amount / limit for amount, limit in pairs if limit is not None]

    def nearness(self, macs: int, params: int) -> Key:
        """Return the sort key that is largest for the network that exceeds the limits least."""
        return -max(self.shares(macs, params)), -macs, -params

    def text(self) -> str:
        """Return the limits as text: 3 000 000 MACs and 11 000 parameters."""
        names = {"macs": "MACs", "params": "parameters"}
        return " and ".join(f"{grouped(limit)} {names[name]}" for name, limit in self.given().items())


@dataclass(frozen=True, slots=True)
class Criterion:
    """One way to rank networks: its description, (MACs, parameters, limits) -> sort key, and whether it requires a limit."""

    what: str
    key: Callable[[int, int, Limits], Key]
    limited: bool = False


CRITERIA = {
    "budget": Criterion(
        "nearest to all limits at once (largest share of the limit it uses least), ties by fewest MACs",
        lambda macs, params, limits: (min(limits.shares(macs, params)), -macs, -params),
        limited=True,
    ),
    "params": Criterion("most parameters, ties by fewest MACs", lambda macs, params, _: (params, -macs)),
    "macs": Criterion("most MACs, ties by fewest parameters", lambda macs, params, _: (macs, -params)),
}


def get_criterion(name: str) -> Criterion:
    """Return the criterion ``name``; raise ``UsageError`` with the nearest name if there is none."""
    if name not in CRITERIA:
        raise unknown_name("criterion", name, CRITERIA)
    return CRITERIA[name]

"""How long one closed-form count takes, and that the image's size does not matter."""

from functools import partial

from mpvit import VARIANTS
from mpvit.cost import network
from mpvit.operations import Tally, tally

from .plan import Benchmark, Ratio

LIMIT_S = 1e-3
"""One count in at most a millisecond."""


def variants() -> Benchmark:
    """Each variant at 224x224 against the limit."""
    cases = {f"count {name}": partial(_count, name, 224) for name in VARIANTS}
    return Benchmark(cases, tuple(Ratio(name, LIMIT_S, at_most=1) for name in cases), min_samples=20, min_time_s=1)


def sizes() -> Benchmark:
    """The same count of an image with 1338 times as many pixels."""
    small, large = "count xsmall 224×224", "count xsmall 8192×8192"
    cases = {small: partial(_count, "xsmall", 224), large: partial(_count, "xsmall", 8192)}
    return Benchmark(cases, (Ratio(large, small, at_most=1.5),), min_samples=20, min_time_s=1)


def _count(variant: str, side: int) -> Tally:
    return tally(network(VARIANTS[variant].config, 1, side, side), "fvcore")

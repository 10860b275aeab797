"""What a benchmark is: cases that are timed side by side, and the ratios between them that somebody asks about."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Case = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long ``of`` takes as ``to``: a case's name, or a limit in seconds; ``at_most`` if one is promised."""

    of: str
    to: str | float
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Cases by name, each timed for ``min_time_s`` seconds and ``min_samples`` samples, in interleaved rounds."""

    cases: Mapping[str, Case]
    ratios: tuple[Ratio, ...]
    min_samples: int
    min_time_s: float = 1e-3

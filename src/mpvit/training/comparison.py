"""Accuracies of networks that were trained with the same seeds, compared to a baseline with Student's intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from mpvit.training.metrics import Interval, interval_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyComparison:
    """Accuracy of a network on held-out images over several seeds, compared to the baseline.

    Attributes:
        shares: accuracy of each seed.
        images: number of held-out images.
        mean: mean of ``shares``.
        half: half the width of the 95 % interval of ``mean``; None for one seed.
        delta: mean of the differences from the baseline with the same seed.
        delta_half: half the width of the 95 % interval of ``delta``; None for one seed.
        seconds: training time of all seeds.
    """

    shares: tuple[float, ...]
    images: int
    mean: float
    half: float | None
    delta: float
    delta_half: float | None
    seconds: float

    @property
    def verdict(self) -> str:
        """The difference from the baseline in words."""
        if self.delta_half is None:
            return "one seed: no interval"
        if abs(self.delta) <= self.delta_half:
            return "no difference seen"
        return "better" if self.delta > 0 else "worse"

    def as_row(self) -> dict[str, Any]:
        """Return flat entries for JSON and CSV."""
        return {
            "seeds": len(self.shares),
            "images": self.images,
            **_with_ends("accuracy", self.mean, self.half),
            **_with_ends("delta_accuracy", self.delta, self.delta_half),
            "verdict": self.verdict,
            "accuracies": list(self.shares),
            "train_seconds": self.seconds,
        }


def _with_ends(name: str, value: float, half: float | None) -> dict[str, float | None]:
    return {name: value, **interval_entries(name, None if half is None else Interval(value - half, value + half))}


def compare(accuracies: Sequence[float], baseline: Sequence[float], images: int, seconds: float = 0.0) -> AccuracyComparison:
    """Return the accuracies compared to those of the baseline with the same seeds."""
    differences = [own - other for own, other in zip(accuracies, baseline, strict=True)]
    return AccuracyComparison(
        shares=tuple(accuracies),
        images=images,
        mean=fmean(accuracies),
        half=_half_width(accuracies),
        delta=fmean(differences),
        delta_half=_half_width(differences),
        seconds=seconds,
    )


def _half_width(values: Sequence[float]) -> float | None:
    """Return half the width of the 95 % interval of a mean (Student, Biometrika 6, 1908); None for one value."""
    if len(values) == 1:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5

"""What a network came to beside another one, both trained from the same seeds. Plain data, and Student's intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """What a network came to in training, on pictures held out, beside the baseline.

    Attributes:
        shares: of each seed, the share of pictures whose class the network names.
        images: pictures held out.
        mean: of the shares; ``half`` is half the width of its 95 % interval, None of one seed.
        delta: the mean of the differences from the baseline of the same seed; ``delta_half`` likewise.
        seconds: that training took, of all seeds.
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
        """What the difference from the baseline says, in words."""
        if self.delta_half is None:
            return "one seed: no interval"
        if abs(self.delta) <= self.delta_half:
            return "no difference seen"
        return "better" if self.delta > 0 else "worse"

    def as_row(self) -> dict[str, Any]:
        """Return flat figures for JSON and CSV."""
        half, delta_half = self.half, self.delta_half
        return {
            "seeds": len(self.shares),
            "images": self.images,
            "accuracy": self.mean,
            "accuracy_low": None if half is None else self.mean - half,
            "accuracy_high": None if half is None else self.mean + half,
            "delta_accuracy": self.delta,
            "delta_accuracy_low": None if delta_half is None else self.delta - delta_half,
            "delta_accuracy_high": None if delta_half is None else self.delta + delta_half,
            "verdict": self.verdict,
            "accuracies": list(self.shares),
            "train_seconds": self.seconds,
        }


def compared(shares: Sequence[float], baseline: Sequence[float], images: int, seconds: float = 0.0) -> Accuracy:
    """Return what ``shares`` come to beside the baseline's of the same seeds, with Student's 95 % intervals."""
    differences = [own - other for own, other in zip(shares, baseline, strict=True)]
    return Accuracy(
        shares=tuple(shares),
        images=images,
        mean=fmean(shares),
        half=_half(shares),
        delta=fmean(differences),
        delta_half=_half(differences),
        seconds=seconds,
    )


def _half(values: Sequence[float]) -> float | None:
    """Return half the width of the interval of a mean (Student, Biometrika 6, 1908); one value has none."""
    if len(values) == 1:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5

"""Metrics on labelled images, and accuracies compared with a baseline, as plain values with confidence intervals."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar, NamedTuple

from mpvit.model.metadata import MeanIoU

_NORMAL_QUANTILE = 1.959963984540054
"""97.5 % quantile of the normal distribution, for intervals of 95 %."""


class Interval(NamedTuple):
    """A confidence interval of 95 % of a share."""

    low: float
    high: float


def wilson(correct: int, images: int) -> Interval:
    """Return Wilson's interval of a share of successes (J. Am. Stat. Assoc. 22, 1927), which is always within [0, 1]."""
    z, share = _NORMAL_QUANTILE, correct / images
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * sqrt(share * (1 - share) / images + z * z / (4 * images**2))
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0))


def interval_entries(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return the ends of an interval as two entries of a row; None if there is no interval."""
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of one class, in images or, for a segmenter, in pixels.

    Attributes:
        count: images of the class.
        correct: images of the class that are predicted correctly.
        predicted: images that are predicted as this class.
        iou, interval: intersection over union with its interval; None for a classifier, and for a class without pixels.
    """

    name: str
    count: int
    correct: int
    predicted: int
    iou: float | None = None
    interval: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Metrics of both; the unit is an image for a classifier and a labelled pixel for a segmenter.

    Attributes:
        confusion: confusion matrix, in units: rows are the true classes, columns the predicted ones.
        loss: mean cross-entropy.
        seconds: time from the first image read to the last prediction.
        overlap: mean intersection over union of a segmenter; None for a classifier.
    """

    confusion: tuple[tuple[int, ...], ...]
    loss: float
    seconds: float
    overlap: MeanIoU | None = None
    unit: ClassVar[str]

    @property
    def count(self) -> int:
        """Number of units."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Units that are predicted correctly."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of the units that are predicted correctly."""
        return self.correct / self.count

    def by_class(self, names: Sequence[str]) -> tuple[ClassMetrics, ...]:
        """Return the metrics of each class."""
        predicted = [sum(column) for column in zip(*self.confusion, strict=True)]
        return tuple(
            ClassMetrics(name, sum(row), row[index], predicted[index])
            for index, (name, row) in enumerate(zip(names, self.confusion, strict=True))
        )

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return flat entries of each class for JSON."""
        return [
            {"name": each.name, self.unit: each.count, "correct": each.correct, "predicted": each.predicted}
            | ({"iou": each.iou, **interval_entries("iou", each.interval)} if self.overlap else {})
            for each in self.by_class(names)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassificationMetrics(Metrics):
    """Metrics of a classifier.

    Attributes:
        correct5: images whose class is among the five predictions with the highest probability.
        calibration_error: expected calibration error, the mean distance of confidence and accuracy over 15 bins.
    """

    correct5: int
    calibration_error: float
    unit = "images"

    def as_row(self) -> dict[str, Any]:
        """Return flat entries for JSON and CSV."""
        return {
            "top1": self.accuracy,
            **interval_entries("top1", wilson(self.correct, self.count)),
            "top5": self.correct5 / self.count,
            **interval_entries("top5", wilson(self.correct5, self.count)),
            "loss": self.loss,
            "calibration_error": self.calibration_error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationMetrics(Metrics):
    """Metrics of a segmenter.

    Attributes:
        overlap: mean over the classes of ``ious``, with its interval.
        ious: intersection over union of each class; None if neither masks nor predictions have the class.
        iou_intervals: their intervals; None for the same classes.
        accuracy_interval: interval of the pixel accuracy.
    """

    overlap: MeanIoU
    ious: tuple[float | None, ...]
    iou_intervals: tuple[Interval | None, ...]
    accuracy_interval: Interval
    unit = "pixels"

    def by_class(self, names: Sequence[str]) -> tuple[ClassMetrics, ...]:  # noqa: D102 - as in Metrics
        rows = zip(Metrics.by_class(self, names), self.ious, self.iou_intervals, strict=True)
        return tuple(replace(each, iou=iou, interval=interval) for each, iou, interval in rows)

    def as_row(self) -> dict[str, Any]:
        """Return flat entries for JSON and CSV."""
        return {
            "pixels": self.count,
            "miou": self.overlap.miou,
            **interval_entries("miou", Interval(self.overlap.low, self.overlap.high)),
            "pixel_accuracy": self.accuracy,
            **interval_entries("pixel_accuracy", self.accuracy_interval),
            "loss": self.loss,
        }


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
    from statistics import fmean

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
    from statistics import stdev

    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5

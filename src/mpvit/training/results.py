"""What training and evaluation found, as frozen values. Those of a segmenter's evaluation stand in ``segmented.py``."""

from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

from mpvit.model.metadata import MeanIoU

_NORMAL_QUANTILE = 1.959963984540054
"""Of 97.5 %: an interval of 95 %."""


class Interval(NamedTuple):
    """Where a share lies with 95 % confidence."""

    low: float
    high: float


def wilson(correct: int, images: int) -> Interval:
    """Return the interval of a share of successes (Wilson, J. Am. Stat. Assoc. 22, 1927); never outside [0, 1]."""
    z, share = _NORMAL_QUANTILE, correct / images
    middle = (share + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * sqrt(share * (1 - share) / images + z * z / (4 * images**2))
    return Interval(max(middle - half, 0.0), min(middle + half, 1.0))


class ClassResult(NamedTuple):
    """Of one class: its name, its pictures, those found, and those that were taken for it."""

    name: str
    images: int
    correct: int
    predicted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How well a network does on pictures.

    Attributes:
        data: their name.
        part: which of the data they are.
        model: the network's name.
        weights: its file.
        classes: the names of the classes.
        confusion: pictures of each class (row) by the class that the network names (column).
        correct5: pictures whose class is among the likeliest five.
        loss: mean cross-entropy.
        calibration_error: the expected one: how far confidence and accuracy are apart, over 15 bins of confidence.
        seconds: from the first picture read to the last one answered.
        damaged: pictures that cannot be read, with the reason; they are not counted.
    """

    data: str
    part: str
    model: str
    weights: str
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    correct5: int
    loss: float
    calibration_error: float
    seconds: float
    damaged: tuple[tuple[str, str], ...] = ()

    @property
    def images(self) -> int:
        """Pictures looked at."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Pictures whose likeliest class is the right one."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def top1(self) -> float:
        """Their share."""
        return self.correct / self.images

    @property
    def top5(self) -> float:
        """The share of those among whose likeliest five classes is the right one."""
        return self.correct5 / self.images

    @property
    def images_per_s(self) -> float:
        """Pictures a second, reading them included."""
        return self.images / self.seconds

    @property
    def by_class(self) -> tuple[ClassResult, ...]:
        """What each class comes to."""
        columns = [sum(row[index] for row in self.confusion) for index in range(len(self.classes))]
        return tuple(
            ClassResult(name, sum(row), row[index], columns[index])
            for index, (name, row) in enumerate(zip(self.classes, self.confusion, strict=True))
        )

    def as_row(self) -> dict[str, Any]:
        """Return the evaluation as one flat row for JSON and CSV."""
        return {
            "model": self.model,
            "weights": self.weights,
            "data": self.data,
            "part": self.part,
            "images": self.images,
            "damaged": len(self.damaged),
            "top1": self.top1,
            **ends("top1", wilson(self.correct, self.images)),
            "top5": self.top5,
            **ends("top5", wilson(self.correct5, self.images)),
            "loss": self.loss,
            "calibration_error": self.calibration_error,
            "images_per_s": self.images_per_s,
        }


def ends(name: str, interval: Interval) -> dict[str, float]:
    """Return an interval as two entries of a row."""
    return {f"{name}_low": interval.low, f"{name}_high": interval.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch came to; a line of ``log.jsonl``.

    Attributes:
        epoch: counted from 1.
        step: steps of the optimizer so far.
        rate: the learning rate of its last step.
        loss: mean over its pictures, changed and mixed as they are.
        accuracy: share of its pictures, as they are changed, whose likeliest class is the right one; of a segmenter, of their
            pixels.
        held_out_loss: of the averaged weights on the pictures held out.
        held_out_correct: pictures held out whose class those name; of a segmenter, their pixels.
        held_out_images: pictures held out.
        images_per_s: pictures learned from a second, reading them included.
        overlap: of a segmenter alone, on the pictures held out.
    """

    epoch: int
    step: int
    rate: float
    loss: float
    accuracy: float
    held_out_loss: float
    held_out_correct: int
    held_out_images: int
    images_per_s: float
    overlap: MeanIoU | None = None

    @property
    def held_out_accuracy(self) -> float:
        """Share of the pictures held out, or of a segmenter's pixels, whose class the averaged weights name."""
        return self.held_out_correct / (self.overlap.pixels if self.overlap else self.held_out_images)


class Step(NamedTuple):
    """How far a run is, while an epoch goes on: ``loss`` and ``accuracy`` are of this epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_s: float

    @property
    def share(self) -> float:
        """The share of all steps that is done."""
        return ((self.epoch - 1) * self.steps + self.step) / (self.epochs * self.steps)

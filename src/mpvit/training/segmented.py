"""How well a segmenter does on pictures with masks, as a frozen value."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mpvit.model.metadata import MeanIoU
from mpvit.training.results import Interval, ends


class ClassPixels(NamedTuple):
    """Of one class: its name, its pixels, those found, those that were taken for it, its IoU with the interval.

    The IoU is None where neither masks nor answers hold the class.
    """

    name: str
    pixels: int
    correct: int
    predicted: int
    iou: float | None
    interval: Interval | None

    def as_entry(self) -> dict[str, Any]:
        """Return flat figures for JSON."""
        own = {name: value for name, value in self._asdict().items() if name != "interval"}
        low, high = self.interval or (None, None)
        return own | {"iou_low": low, "iou_high": high}


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmenterEvaluation:
    """How well a segmenter does on pictures with masks; what is the same as in ``results.Evaluation`` has its name.

    Attributes:
        task: the segmenter whose head stands on the network.
        images: pictures looked at.
        confusion: pixels of each class (row) by the class that the network names (column).
        loss: mean cross-entropy of the pixels that have a class.
        ious, iou_intervals, overlap, accuracy_interval: see ``pixels.PixelsFound``.
    """

    data: str
    part: str
    model: str
    task: str
    weights: str
    images: int
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    loss: float
    ious: tuple[float | None, ...]
    iou_intervals: tuple[Interval | None, ...]
    overlap: MeanIoU
    accuracy_interval: Interval
    seconds: float
    damaged: tuple[tuple[str, str], ...] = ()

    @property
    def pixels(self) -> int:
        """Pixels that have a class."""
        return self.overlap.pixels

    @property
    def correct(self) -> int:
        """Those whose likeliest class is the right one."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def pixel_accuracy(self) -> float:
        """Their share."""
        return self.correct / self.pixels

    @property
    def images_per_s(self) -> float:
        """Pictures a second, reading them included."""
        return self.images / self.seconds

    @property
    def by_class(self) -> tuple[ClassPixels, ...]:
        """What each class comes to."""
        columns = [sum(row[index] for row in self.confusion) for index in range(len(self.classes))]
        return tuple(
            ClassPixels(name, sum(row), row[index], columns[index], self.ious[index], self.iou_intervals[index])
            for index, (name, row) in enumerate(zip(self.classes, self.confusion, strict=True))
        )

    def as_row(self) -> dict[str, Any]:
        """Return the evaluation as one flat row for JSON and CSV."""
        return {
            "model": self.model,
            "task": self.task,
            "weights": self.weights,
            "data": self.data,
            "part": self.part,
            "images": self.images,
            "damaged": len(self.damaged),
            "pixels": self.pixels,
            "miou": self.overlap.miou,
            **ends("miou", Interval(self.overlap.low, self.overlap.high)),
            "pixel_accuracy": self.pixel_accuracy,
            **ends("pixel_accuracy", self.accuracy_interval),
            "loss": self.loss,
            "images_per_s": self.images_per_s,
        }

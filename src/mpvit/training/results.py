"""Results of training and evaluation, as frozen values."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mpvit.model.metadata import MeanIoU
from mpvit.training.metrics import ClassificationMetrics, SegmentationMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Metrics of a network on labelled images.

    Attributes:
        part: split of the data, ``held-out`` or ``all``.
        task: segmenter on the network; empty for a classifier.
        images: number of images.
        damaged: names of the images that cannot be read, with the reason; they are not counted.
    """

    data: str
    part: str
    model: str
    task: str
    weights: str
    classes: tuple[str, ...]
    images: int
    damaged: tuple[tuple[str, str], ...]
    metrics: ClassificationMetrics | SegmentationMetrics

    @property
    def images_per_s(self) -> float:
        """Images per second, including the time to read them."""
        return self.images / self.metrics.seconds

    def as_row(self) -> dict[str, Any]:
        """Return the evaluation as one flat row for JSON and CSV."""
        return {
            "model": self.model,
            **({"task": self.task} if self.task else {}),
            "weights": self.weights,
            "data": self.data,
            "part": self.part,
            "images": self.images,
            "damaged": len(self.damaged),
            **self.metrics.as_row(),
            "images_per_s": self.images_per_s,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Result of one epoch; one line of ``log.jsonl``.

    Attributes:
        epoch: number of the epoch, from 1.
        step: steps of the optimizer so far.
        rate: learning rate of the last step.
        loss: mean loss over the training images, as they are augmented and mixed.
        accuracy: share of the training images, as they are augmented, that are classified correctly; pixels for a segmenter.
        held_out_loss: mean loss of the averaged weights over the held-out images.
        held_out_correct: held-out images that the averaged weights classify correctly; pixels for a segmenter.
        held_out_images: number of held-out images.
        images_per_s: training images per second, including the time to read them.
        overlap: mean intersection over union of a segmenter on the held-out images; None for a classifier.
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
        """Share of the held-out images that are classified correctly; labelled pixels for a segmenter."""
        return self.held_out_correct / (self.overlap.pixels if self.overlap else self.held_out_images)

    @property
    def figures(self) -> dict[str, float]:
        """Figures for a log, by name."""
        names = ("rate", "loss", "accuracy", "held_out_loss", "held_out_accuracy", "images_per_s")
        overlap = {"held_out_miou": self.overlap.miou} if self.overlap else {}
        return {name: getattr(self, name) for name in names} | overlap


class Step(NamedTuple):
    """Progress of a run within an epoch; ``loss`` and ``accuracy`` are means over the epoch so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    images_per_s: float

    @property
    def share(self) -> float:
        """Share of all steps of the run that are done."""
        return ((self.epoch - 1) * self.steps + self.step) / (self.epochs * self.steps)

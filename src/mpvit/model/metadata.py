"""The metadata of weights besides the configuration: task, classes, preprocessing, and training."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from mpvit.errors import WeightsError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of red, green and blue in [0, 1] over ImageNet-1K, as for the published weights."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Preprocessing of an image: resized (bicubic), cropped to its centre, normalised.

    Attributes:
        size: side of the cropped square, in pixels.
        crop: ``size`` over the short side of the resized image; 1 for a segmenter, which takes the whole resized image.
        mean: mean of red, green and blue in [0, 1].
        std: standard deviation of red, green and blue in [0, 1].
    """

    size: int = 224
    crop: float = 0.875
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def side(self) -> int:
        """Short side of the resized image, in pixels."""
        return round(self.size / self.crop)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanIoU:
    """Mean intersection over union of a segmenter on the held-out images.

    Attributes:
        miou: mean over the classes of the intersection over union of their pixels.
        low: lower bound of its 95 % interval, from resampled images.
        high: upper bound of that interval.
        pixels: number of labelled pixels.
    """

    miou: float
    low: float
    high: float
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """The training of the weights, and their accuracy on the held-out images.

    Attributes:
        data: name of the dataset.
        held_out: share of the images that this project held out; 0 if the dataset has a validation split.
        images: number of held-out images.
        correct: number of held-out images, or pixels for a segmenter, that are classified correctly.
        epochs: number of epochs.
        recipe: name of the recipe.
        overlap: mean intersection over union; None for a classifier.
    """

    data: str
    held_out: float
    images: int
    correct: int
    epochs: int
    recipe: str
    overlap: MeanIoU | None = None

    @property
    def accuracy(self) -> float:
        """Share of the held-out images, or labelled pixels for a segmenter, that are classified correctly."""
        return self.correct / (self.overlap.pixels if self.overlap else self.images)


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of weights; what is not known is None.

    Attributes:
        classes: names of the classes, by index.
        preprocessing: preprocessing of the images.
        trained: record of the training.
        task: task in ``mpvit.dense`` of a segmenter; None for a classifier.
    """

    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    trained: TrainingRecord | None = None
    task: str | None = None

    def to_text(self) -> dict[str, str]:
        """Return the entries of a file's metadata: JSON by name."""
        known = asdict(self, dict_factory=lambda fields: {name: value for name, value in fields if value is not None})
        return {f"mpvit.{name}": json.dumps(value) for name, value in known.items()}


NO_METADATA = Metadata()
"""Metadata of a file that holds none."""


def read_metadata(text: Mapping[str, str]) -> Metadata:
    """Return the metadata in the entries of a file; raise ``WeightsError`` if they cannot be read."""
    import msgspec

    found: dict[str, Any] = {}
    for name, kind in get_type_hints(Metadata).items():
        if (entry := text.get(f"mpvit.{name}")) is not None:
            try:
                found[name] = msgspec.json.decode(entry, type=kind)
            except msgspec.MsgspecError as error:
                raise WeightsError(f"its {name} cannot be read: {error}") from None
    return Metadata(**found)

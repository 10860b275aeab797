"""Predictions for image files, and the network that made them, as frozen values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpvit.model.metadata import TrainingRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "unknown network"
"""Name of a network whose file has no description."""

TORCH = "torch"
"""ExportedNetwork of a network that is not exported."""


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """The network that made a prediction, and where it ran.

    Attributes:
        model: name of the variant with these stages; ``custom`` for any other, ``UNKNOWN`` without a description.
        weights: file of the weights; None for random weights, whose predictions mean nothing.
        device, dtype: torch's names of the device and of the dtype of the weights.
        threads: CPU threads of one operation.
        training: what the weights were trained on, if their file has it.
        engine: the engine that runs the network, with its version.
        task: segmenter on the network; empty for a classifier.
    """

    model: str
    weights: str | None
    device: str
    threads: int
    dtype: str
    training: TrainingRecord | None = None
    engine: str = TORCH
    task: str = ""

    @property
    def trained(self) -> bool:
        """Whether the weights come from a file."""
        return self.weights is not None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class of the prediction for an image. ``probability`` is its softmax score, in [0, 1]."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The classes with the highest probability for one image, in descending order; or none and the reason in ``error``."""

    image: str
    classes: tuple[ClassScore, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One class in the segmentation of an image: its number of pixels, and their ``share`` of the image, in [0, 1]."""

    index: int
    name: str
    pixels: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """The segmentation of one image.

    Attributes:
        classes: classes with at least one pixel, in descending order of their pixels.
        indices: class index of each pixel, (height, width) of 8 bits; None if there is an ``error``.
        error: the reason why there is no segmentation.
    """

    image: str
    classes: tuple[ClassShare, ...] = ()
    indices: "NDArray[np.uint8] | None" = None
    error: str = ""

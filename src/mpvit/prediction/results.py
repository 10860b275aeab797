"""What a network sees in images, as frozen values."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpvit.model.metadata import TrainingRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN = "unknown network"
"""What a network is called whose file says nothing of it."""


TORCH = "torch"
"""The engine of weights that are no exported network."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """The network that answered, and where it ran.

    Attributes:
        model: the published variant that it is built like; ``custom`` for any other, ``UNKNOWN`` where nobody says.
        weights: their file; None where they are random, so that the classes mean nothing.
        device: torch's name of the device.
        threads: CPU threads of one operation.
        dtype: of the weights, such as float32.
        training: what they were trained on, where their file says so.
        engine: what runs it, with its version.
        task: the segmenter whose head stands on the network; empty for one that names the classes of whole pictures.
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
    """One class that a network gives an image. ``probability`` is its softmax score, in [0, 1]."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best classes of one image, the likeliest first; or no classes and, in ``error``, the reason why there are none."""

    image: str
    classes: tuple[ClassScore, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One class that a segmenter sees in an image: its pixels, and their ``share`` of the image, in [0, 1]."""

    index: int
    name: str
    pixels: int
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """What a segmenter sees in one image.

    Attributes:
        image: what a person calls it.
        classes: that it has pixels of, the largest first.
        indices: of the class of each pixel, (height, width) of 8 bits; None where there is an ``error``.
        error: why there are none.
    """

    image: str
    classes: tuple[ClassShare, ...] = ()
    indices: "NDArray[np.uint8] | None" = None
    error: str = ""

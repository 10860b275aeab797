"""What travels with weights beside the configuration: task, classes, preprocessing, and what they were trained on."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from mpvit.errors import WeightsError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1] over ImageNet-1K: what the published weights were trained with."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What becomes of a picture: short side to ``size / crop`` pixels (bicubic), centre of ``size``, normalised.

    A segmenter sees all of it, the short side ``size`` pixels long, and has a ``crop`` of 1.
    """

    size: int = 224
    crop: float = 0.875
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @property
    def side(self) -> int:
        """Pixels of the short side, of which the centre is kept."""
        return round(self.size / self.crop)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """How well a segmenter's answers cover the classes of the pictures held out.

    Attributes:
        miou: mean over the classes of intersection ÷ union of their pixels.
        low, high: its interval of 95 %, by resampling pictures.
        pixels: that have a class in the masks.
    """

    miou: float
    low: float
    high: float
    pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What weights were trained on and how well they do on pictures held out.

    Attributes:
        data: the name of the data.
        held_out: share of it that was held out of training by its own rule; 0 where the data brings a part for that.
        images: pictures held out.
        correct: those whose likeliest class is the right one; of a segmenter, their pixels.
        epochs: times that the others were seen.
        recipe: the recipe's name.
        overlap: of a segmenter alone.
    """

    data: str
    held_out: float
    images: int
    correct: int
    epochs: int
    recipe: str
    overlap: Overlap | None = None

    @property
    def accuracy(self) -> float:
        """Share of the pictures held out, or of a segmenter's pixels, whose likeliest class is the right one."""
        return self.correct / (self.overlap.pixels if self.overlap else self.images)


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of weights; None of what is not. ``task`` is the one in ``mpvit.dense`` whose head stands on them."""

    classes: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    trained: Trained | None = None
    task: str | None = None

    def as_metadata(self) -> dict[str, str]:
        """Return the entries of a safetensors file's metadata."""
        known = {name: getattr(self, name) for name in _KINDS}
        return {f"mpvit.{name}": json.dumps(_plain(value)) for name, value in known.items() if value is not None}


NO_CARD = Card()
"""Of weights of which nothing is known."""


def read_card(metadata: dict[str, str]) -> Card:
    """Return the card in a file's metadata; raise ``WeightsError`` where it cannot be read."""
    import msgspec

    found: dict[str, Any] = {}
    for name, kind in _KINDS.items():
        if (text := metadata.get(f"mpvit.{name}")) is not None:
            try:
                found[name] = msgspec.json.decode(text, type=kind)
            except msgspec.MsgspecError as error:
                raise WeightsError(f"its {name} cannot be read: {error}") from None
    return Card(**found)


_KINDS: dict[str, Any] = {"classes": tuple[str, ...], "preprocessing": Preprocessing, "trained": Trained, "task": str}
"""What each entry of a card is."""


def _plain(value: Any) -> object:  # noqa: ANN401 - what an entry of a card may be
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return list(value)
    found = asdict(value)
    return {name: own for name, own in found.items() if own is not None}

"""How a network is trained: one typed recipe, of which a run keeps what it was trained with."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from mpvit.errors import UsageError, unknown_name

BATCH_OF_RATE = 512
"""The batch that a recipe's learning rate is for: with another one the rate grows or shrinks as the batch does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe of training; the defaults are DeiT's (Touvron et al., ICML 2021, arXiv:2012.12877, table 9).

    Attributes:
        size: side of the square that the network sees, in pixels.
        crop: share of the short side that is seen in evaluation.
        epochs: times that every picture is seen.
        batch: pictures a step of the optimizer, over all processes.
        accumulate: parts that a batch is computed in, one after the other.
        rate: the learning rate of a batch of 512.
        last_rate: that of the last step; the first is 0 and rises over ``warmup`` epochs, then falls as a cosine.
        weight_decay: of weights; norms and biases have none.
        clip: the largest norm of the gradient; 0 for any.
        smoothing: share of a target spread over all classes.
        mixup, cutmix: α of the Beta distribution of the share of the other picture; 0 without. With both, one of them a batch.
        resized_crop: smallest share of the picture in a random crop of it; 0 for the whole picture, as in evaluation.
        flip: probability of a mirrored picture.
        shift: farthest way that a picture is moved, as a share of its side.
        operations, magnitude: RandAugment's number of operations and their strength, of 30.
        erasing: probability of an erased rectangle.
        average: decay of the moving average of the weights, which is what is kept; less in the first steps.
        dtype: float32, or bfloat16 by autocast.
        seed: of whatever is random.
    """

    size: int = 224
    crop: float = 0.875
    epochs: int = 300
    batch: int = 1024
    accumulate: int = 1
    rate: float = 5e-4
    last_rate: float = 1e-5
    warmup: int = 5
    weight_decay: float = 0.05
    clip: float = 0.0
    smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0
    resized_crop: float = 0.08
    flip: float = 0.5
    shift: float = 0.0
    operations: int = 2
    magnitude: int = 9
    erasing: float = 0.25
    average: float = 0.99996
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check every field once."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"{name} = {value}: must be from {low:g} to {high:g}", hint=f"{name}: {_default(name)}")
        if self.batch % self.accumulate:
            raise UsageError(f"batch = {self.batch}: must be a multiple of accumulate = {self.accumulate}")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)

    @property
    def peak_rate(self) -> float:
        """The learning rate after the warm-up."""
        return self.rate * self.batch / BATCH_OF_RATE

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of step ``step`` of an epoch's ``steps``, counted from the first of all."""
        warm, last = self.warmup * steps, self.epochs * steps
        peak, low = self.peak_rate, min(self.last_rate, self.peak_rate)
        if step < warm:
            return peak * (step + 1) / (warm + 1)
        done = (step - warm) / max(last - warm - 1, 1)
        return low + (peak - low) * (1 + math.cos(math.pi * min(done, 1))) / 2

    def average_at(self, step: int) -> float:
        """Return the decay of the moving average at a step: short runs must not keep the weights that they began with."""
        return min(self.average, (1 + step) / (10 + step))


DTYPES = ("float32", "bfloat16")

_RANGES: dict[str, tuple[float, float]] = {
    "size": (32, 4096),
    "crop": (0.01, 1),
    "epochs": (1, 10**6),
    "batch": (1, 10**6),
    "accumulate": (1, 10**6),
    "rate": (0, 100),
    "last_rate": (0, 100),
    "warmup": (0, 10**6),
    "weight_decay": (0, 100),
    "clip": (0, 10**6),
    "smoothing": (0, 0.99),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "resized_crop": (0, 1),
    "flip": (0, 1),
    "shift": (0, 0.5),
    "operations": (0, 14),
    "magnitude": (0, 30),
    "erasing": (0, 1),
    "average": (0, 1),
    "seed": (0, 2**31),
}

RECIPES = {
    "deit": Recipe(),
    "small": Recipe(
        size=32,
        crop=1.0,
        epochs=20,
        batch=64,
        rate=2e-2,
        warmup=2,
        mixup=0.0,
        cutmix=0.0,
        resized_crop=0.0,
        flip=0.0,
        shift=0.125,
        operations=0,
        erasing=0.0,
        average=0.99,
    ),
    "segment": Recipe(
        size=512,
        crop=1.0,
        epochs=64,
        batch=16,
        rate=3.2e-3,
        last_rate=0.0,
        warmup=1,
        weight_decay=1e-4,
        smoothing=0.0,
        mixup=0.0,
        cutmix=0.0,
        resized_crop=0.25,
        operations=0,
        erasing=0.0,
        average=0.999,
    ),
    "segment-small": Recipe(
        size=64,
        crop=1.0,
        epochs=10,
        batch=16,
        rate=6.4e-2,
        warmup=1,
        clip=1.0,
        smoothing=0.0,
        mixup=0.0,
        cutmix=0.0,
        resized_crop=0.0,
        flip=0.0,
        shift=0.125,
        operations=0,
        erasing=0.0,
        average=0.99,
    ),
}
"""By name: ``deit`` for thousands of pictures a class and days, ``small`` for hundreds and minutes. Of segmenters ``segment``,
whose optimizer, rate, batch and length are those of Semantic FPN on pyramids of transformers (PVT, Wang et al., ICCV 2021,
arXiv:2102.12122, section 5.4) with a cosine, and ``segment-small`` for minutes."""

_WITHOUT_MASKS = ("mixup", "cutmix", "erasing")
"""Changes that leave no mask that fits the picture."""


def require_maskable(recipe: Recipe) -> None:
    """Raise ``UsageError`` for what a segmenter's pictures cannot be changed by, and for a part of them alone."""
    for name in _WITHOUT_MASKS:
        if value := getattr(recipe, name):
            raise UsageError(
                f"{name} = {value}: must be 0 for a segmenter, no mask fits such a picture", hint="--recipe segment has none"
            )
    if recipe.crop != 1:
        raise UsageError(f"crop = {recipe.crop}: must be 1 for a segmenter, which sees whole pictures")


def get_recipe(name: str) -> Recipe:
    """Return the recipe ``name``; raise ``UsageError`` with the nearest name for any other."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]


def changed(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """Return ``recipe`` with fields changed, which may be words, as on a command line; None changes nothing."""
    import msgspec

    kinds = {field.name: field.type for field in fields(Recipe)}
    wanted: dict[str, Any] = {}
    for name, value in changes.items():
        if name not in kinds:
            raise unknown_name("setting", name, kinds)
        if value is not None:
            try:
                wanted[name] = msgspec.convert(value, kinds[name], strict=False)
            except msgspec.ValidationError:
                raise UsageError(f"{name} = {str(value)[:40]!r}: must be {_KINDS[kinds[name]]}", hint=_default(name)) from None
    return replace(recipe, **wanted)


def changes_of(recipe: Recipe, name: str) -> dict[str, Any]:
    """Return the settings in which ``recipe`` differs from the one called ``name``."""
    usual = get_recipe(name)
    pairs = {each.name: (getattr(recipe, each.name), getattr(usual, each.name)) for each in fields(Recipe)}
    return {setting: own for setting, (own, other) in pairs.items() if own != other}


_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a word"}


def _default(name: str) -> str:
    return ", ".join(f"{getattr(recipe, name)} in the recipe {known!r}" for known, recipe in RECIPES.items())

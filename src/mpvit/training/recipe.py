"""Training recipes: typed settings with ranges, of which a run keeps those that it was trained with."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mpvit.errors import UsageError, unknown_name

BATCH_OF_RATE = 512
"""Batch size that ``rate`` is for; the learning rate is proportional to the batch size."""

DTYPES = ("float32", "bfloat16")

_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "a word"}


def _range(low: float, high: float) -> dict[str, tuple[float, float]]:
    return {"range": (low, high)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of a training run; the defaults are those of DeiT (Touvron et al., ICML 2021, arXiv:2012.12877, table 9).

    Attributes:
        size: side of the square images that the network is trained on, in pixels.
        crop: share of the short side that is used in evaluation.
        epochs: passes over the training images.
        batch: images per step of the optimizer, over all processes.
        accumulate: parts that a batch is computed in, one after the other.
        rate: learning rate for a batch of 512 after the warm-up.
        last_rate: learning rate of the last step. The rate rises from 0 over ``warmup`` epochs, then follows a cosine.
        warmup: epochs of the warm-up.
        weight_decay: weight decay of the weights; norms and biases have none.
        clip: largest norm of the gradient; 0 for no clipping.
        smoothing: share of the target that label smoothing spreads over all classes.
        mixup, cutmix: α of the Beta distribution of the other image's share; 0 for none. With both, each batch gets one.
        resized_crop: smallest share of the image in a random resized crop; 0 for the evaluation crop.
        flip: probability of a horizontal flip.
        shift: largest random shift, as a share of the side.
        operations, magnitude: number of RandAugment operations, and their magnitude, of 30.
        erasing: probability of random erasing.
        average: decay of the moving average of the weights, which is what is saved; smaller in the first steps.
        dtype: float32, or bfloat16 by autocast.
        seed: random seed.
    """

    size: int = field(default=224, metadata=_range(32, 4096))
    crop: float = field(default=0.875, metadata=_range(0.01, 1))
    epochs: int = field(default=300, metadata=_range(1, 10**6))
    batch: int = field(default=1024, metadata=_range(1, 10**6))
    accumulate: int = field(default=1, metadata=_range(1, 10**6))
    rate: float = field(default=5e-4, metadata=_range(0, 100))
    last_rate: float = field(default=1e-5, metadata=_range(0, 100))
    warmup: int = field(default=5, metadata=_range(0, 10**6))
    weight_decay: float = field(default=0.05, metadata=_range(0, 100))
    clip: float = field(default=0.0, metadata=_range(0, 10**6))
    smoothing: float = field(default=0.1, metadata=_range(0, 0.99))
    mixup: float = field(default=0.8, metadata=_range(0, 100))
    cutmix: float = field(default=1.0, metadata=_range(0, 100))
    resized_crop: float = field(default=0.08, metadata=_range(0, 1))
    flip: float = field(default=0.5, metadata=_range(0, 1))
    shift: float = field(default=0.0, metadata=_range(0, 0.5))
    operations: int = field(default=2, metadata=_range(0, 14))
    magnitude: int = field(default=9, metadata=_range(0, 30))
    erasing: float = field(default=0.25, metadata=_range(0, 1))
    average: float = field(default=0.99996, metadata=_range(0, 1))
    dtype: str = "float32"
    seed: int = field(default=0, metadata=_range(0, 2**31))

    def __post_init__(self) -> None:
        for each in fields(self):
            low, high = each.metadata.get("range", (None, None))
            value = getattr(self, each.name)
            if low is not None and not (math.isfinite(value) and low <= value <= high):
                raise UsageError(f"{each.name} = {value}: must be from {low:g} to {high:g}", hint=_usual_values(each.name))
        if self.batch % self.accumulate:
            raise UsageError(f"batch = {self.batch}: must be a multiple of accumulate = {self.accumulate}")
        if self.dtype not in DTYPES:
            raise unknown_name("dtype", self.dtype, DTYPES)

    @property
    def peak_rate(self) -> float:
        """The learning rate after the warm-up."""
        return self.rate * self.batch / BATCH_OF_RATE

    def rate_at(self, step: int, steps: int) -> float:
        """Return the learning rate of ``step``, counted over the whole run, with ``steps`` steps per epoch."""
        warm, last = self.warmup * steps, self.epochs * steps
        peak, low = self.peak_rate, min(self.last_rate, self.peak_rate)
        if step < warm:
            return peak * (step + 1) / (warm + 1)
        done = (step - warm) / max(last - warm - 1, 1)
        return low + (peak - low) * (1 + math.cos(math.pi * min(done, 1))) / 2

    def average_at(self, step: int) -> float:
        """Return the decay of the moving average at a step: smaller at first, so that short runs forget the first weights."""
        return min(self.average, (1 + step) / (10 + step))


_PLAIN = Recipe(crop=1.0, mixup=0.0, cutmix=0.0, operations=0, erasing=0.0)
"""Whole images, without augmentations that leave no mask that fits the image."""

_SMALL = replace(_PLAIN, resized_crop=0.0, flip=0.0, shift=0.125, average=0.99)

RECIPES = {
    "deit": Recipe(),
    "small": replace(_SMALL, size=32, epochs=20, batch=64, rate=2e-2, warmup=2),
    "segment": replace(
        _PLAIN,
        size=512,
        epochs=64,
        batch=16,
        rate=3.2e-3,
        last_rate=0.0,
        warmup=1,
        weight_decay=1e-4,
        smoothing=0.0,
        resized_crop=0.25,
        average=0.999,
    ),
    "segment-small": replace(_SMALL, size=64, epochs=10, batch=16, rate=6.4e-2, warmup=1, clip=1.0, smoothing=0.0),
}
"""Recipes by name.

``deit`` is for thousands of images a class and takes days, ``small`` is for hundreds and takes minutes. ``segment`` is for
segmenters: optimizer, learning rate, batch and length are those of Semantic FPN on transformer pyramids (PVT, Wang et al.,
ICCV 2021, arXiv:2102.12122, section 5.4), with a cosine schedule. ``segment-small`` is for segmenters and takes minutes.
"""


def get_recipe(name: str) -> Recipe:
    """Return the recipe ``name``; raise ``UsageError`` with the nearest name if there is none."""
    if name not in RECIPES:
        raise unknown_name("recipe", name, RECIPES)
    return RECIPES[name]


def require_maskable(recipe: Recipe) -> None:
    """Raise ``UsageError`` for augmentations that leave no mask that fits the image, and for a crop in evaluation."""
    for name in ("mixup", "cutmix", "erasing"):
        if value := getattr(recipe, name):
            rule = "must be 0 for a segmenter, no mask would fit such an image"
            raise UsageError(f"{name} = {value}: {rule}", hint="it is 0 in the recipe segment")
    if recipe.crop != 1:
        raise UsageError(f"crop = {recipe.crop}: must be 1 for a segmenter, which is evaluated on whole images")


def override(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """Return ``recipe`` with other ``settings``, which may be words from a command line; None keeps a setting."""
    import msgspec

    kinds = {each.name: each.type for each in fields(Recipe)}
    values: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in kinds:
            raise unknown_name("setting", name, kinds)
        if value is not None:
            try:
                values[name] = msgspec.convert(value, kinds[name], strict=False)
            except msgspec.ValidationError:
                message = f"{name} = {str(value)[:40]!r}: must be {_KINDS[kinds[name]]}"
                raise UsageError(message, hint=_usual_values(name)) from None
    return replace(recipe, **values)


def differences(recipe: Recipe, name: str) -> dict[str, Any]:
    """Return the settings of ``recipe`` that differ from the recipe called ``name``."""
    pairs = {each.name: (getattr(recipe, each.name), getattr(get_recipe(name), each.name)) for each in fields(Recipe)}
    return {setting: own for setting, (own, usual) in pairs.items() if own != usual}


def _usual_values(name: str) -> str:
    values = ", ".join(f"{getattr(recipe, name)} in the recipe {known!r}" for known, recipe in RECIPES.items())
    return f"{name}: {values}"

"""Generated images with masks: handwritten digits of any size and position on textured ground; 11 classes of pixels.

An image of 64x64 pixels has two textures side by side, each of two similar grey levels, and one to three digits of
scikit-learn, 14 to 36 pixels high, rotated by up to 15 degrees and of a grey level that differs from the ground's; a later
digit may hide an earlier one. Its mask has, for each pixel, the digit that covers more than half of it, if any. Nothing is
stored: an image is generated from its index. The held-out images use only digits that ``digits`` holds out.
"""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi, sin
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from mpvit.training import seed_of
from mpvit.training.data import DIGITS_ON_TEXTURES, GENERATED_SIZE
from mpvit.training.data.digits import read_digits
from mpvit.training.data.scales import TEXTURES, textured
from mpvit.training.data.splits import Data, ImageSource, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAIN, HELD_OUT = 2_000, 400

CLASSES = ("ground", *map(str, range(10)))

MIN_SIDE, MAX_SIDE = 18, 45
"""Side of a digit with its margins, in pixels; the digit is four fifths of it."""

_MARGIN = 1
"""Margin around the 8x8 pixels of a digit, in these pixels."""

_MAX_ROTATION = 15
"""Largest rotation of a digit, in degrees."""

_MAX_CONTRAST, _MIN_INK_CONTRAST = 0.2, 0.3
"""Largest difference of the grey levels of a texture, and smallest difference between a digit and the ground."""


class MaskedImage(NamedTuple):
    """A grey image and its mask, both (64, 64) of 8 bits."""

    image: Image.Image
    mask: Image.Image


class _Generator(ImageSource):
    masked = True

    def read(self, index: int) -> Image.Image:
        return generate(index).image.convert("RGB")

    def mask(self, index: int) -> Image.Image:
        return generate(index).mask


def read_digits_on_textures() -> Data:
    """Return 2000 training images and 400 held-out images with masks."""
    names = tuple(f"{DIGITS_ON_TEXTURES}[{index}]" for index in range(TRAIN + HELD_OUT))
    images = Split.of(_Generator(names), (0,) * len(names))
    return Data.of(DIGITS_ON_TEXTURES, DIGITS_ON_TEXTURES, CLASSES, images, TRAIN)


@lru_cache(1)
def _digits() -> Data:
    return read_digits()


@lru_cache(TRAIN + HELD_OUT)  # every epoch reads the same images
def generate(index: int) -> MaskedImage:
    """Return the image and the mask of an index; from index ``TRAIN`` on the digits are held-out ones."""
    rng = np.random.default_rng(seed_of(DIGITS_ON_TEXTURES, index))
    digits = _digits().train if index < TRAIN else _digits().held_out
    values, greys = _ground(rng)
    mask = np.zeros((GENERATED_SIZE, GENERATED_SIZE), dtype=np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        digit = int(rng.integers(len(digits)))
        cover = _coverage(rng, digits.read(digit).convert("L"))
        values = (1 - cover) * values + cover * _ink(rng, greys)
        mask[cover > 1 / 2] = 1 + digits.targets[digit]
    values = values + rng.normal(0, 0.03, values.shape)
    return MaskedImage(Image.fromarray(np.clip(255 * values, 0, 255).astype(np.uint8)), Image.fromarray(mask))


def _ground(rng: np.random.Generator) -> tuple[NDArray[np.float64], list[float]]:
    """Return two textures, (64, 64), on either side of a line near the centre, and their four grey levels in [0, 1]."""
    turn = rng.uniform(0, 2 * pi)
    down, across = np.mgrid[:GENERATED_SIZE, :GENERATED_SIZE] - (GENERATED_SIZE - 1) / 2
    first = across * cos(turn) + down * sin(turn) > rng.uniform(-GENERATED_SIZE / 4, GENERATED_SIZE / 4)
    middle = rng.uniform(_MAX_CONTRAST, 1 - _MAX_CONTRAST)
    levels = rng.uniform(middle - _MAX_CONTRAST / 2, middle + _MAX_CONTRAST / 2, 4)
    greys = [float(grey) for grey in np.clip(levels, 0, 1)]
    one, other = (textured(rng, int(rng.integers(len(TEXTURES))), *greys[at : at + 2]) for at in (0, 2))
    return np.where(first, one, other), greys


def _ink(rng: np.random.Generator, greys: list[float]) -> float:
    """Return a grey level in [0, 1] that differs from all of ``greys`` by ``_MIN_INK_CONTRAST``."""
    low, high = min(greys) - _MIN_INK_CONTRAST, max(greys) + _MIN_INK_CONTRAST
    dark, light = max(low, 0.0), max(1 - high, 0.0)  # lengths of the two ranges that are allowed
    drawn = float(rng.uniform(0, dark + light))
    return drawn if drawn < dark else high + drawn - dark


def _coverage(rng: np.random.Generator, digit: Image.Image) -> NDArray[np.float64]:
    """Return the share of each pixel, (64, 64), that a digit covers at a random size, rotation and position."""
    side = int(rng.integers(MIN_SIDE, MAX_SIDE + 1))
    left, top = (int(rng.integers(-side // 8, GENERATED_SIZE - side + side // 8 + 1)) for _ in range(2))
    large = ImageOps.expand(digit, _MARGIN).resize((side, side), Image.Resampling.BICUBIC)
    rotated = large.rotate(float(rng.uniform(-_MAX_ROTATION, _MAX_ROTATION)), Image.Resampling.BICUBIC)
    canvas = Image.new("L", (GENERATED_SIZE, GENERATED_SIZE))
    canvas.paste(rotated, (left, top))
    strength = np.asarray(canvas) / 255
    return np.clip((strength - 0.3) / 0.3, 0, 1)  # strokes with sharp edges, not the blurred ones of an 8x8 image

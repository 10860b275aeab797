"""Generated pictures with masks: handwritten digits of any size at any place on textured ground; 11 classes of pixels.

A picture of 64x64 pixels has two textures side by side, each of two near greys, and one to three of the digits inside
scikit-learn, 14 to 36 pixels high, turned by up to 15 degrees and of a grey that differs from the ground's; a later one may
hide an earlier one. Its mask says of each pixel which digit covers more than half of it, if any. Nothing is stored: a picture
is drawn from its number. The digits of pictures held out are those that ``digits`` holds out: none of them is ever learned.
"""

from __future__ import annotations

from functools import lru_cache
from math import cos, pi, sin
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from mpvit.training import seed_of
from mpvit.training.data import DIGITS_ON_TEXTURES, Data, Part
from mpvit.training.data import SCALES_SIDE as SIDE
from mpvit.training.data.digits import read_digits
from mpvit.training.data.scales import TEXTURES, filled

if TYPE_CHECKING:
    from numpy.typing import NDArray

TRAINED, HELD_OUT = 2_000, 400

CLASSES = ("ground", *map(str, range(10)))

SMALLEST, LARGEST = 18, 45
"""Sides of a digit and its margins, in pixels: it is four fifths of that."""

_MARGIN = 1
"""Of the 8x8 pixels of a digit, which reach their edge."""

_STEEPEST = 15
"""Degrees that a digit is turned by."""

_NEAR, _APART = 0.2, 0.3
"""How far apart the two greys of a texture are at most, and any of the ground's from a digit's at least."""


class Drawn(NamedTuple):
    """A picture, grey, and its mask, both (64, 64) of 8 bits."""

    picture: Image.Image
    mask: Image.Image


class _Drawn:
    def read(self, place: int) -> Image.Image:
        return draw(place).picture.convert("RGB")

    def name(self, place: int) -> str:
        return f"{DIGITS_ON_TEXTURES}[{place}]"

    def mask(self, place: int) -> Image.Image:
        return draw(place).mask


def read_digits_on_textures() -> Data:
    """Return 2000 pictures with masks to learn from and 400 held out."""
    source = _Drawn()
    whole = Part(source, tuple(range(TRAINED + HELD_OUT)), (0,) * (TRAINED + HELD_OUT), source)
    train, held_out = whole.only(range(TRAINED)), whole.only(range(TRAINED, TRAINED + HELD_OUT))
    return Data(DIGITS_ON_TEXTURES, DIGITS_ON_TEXTURES, CLASSES, train, held_out)


@lru_cache(1)
def _digits() -> Data:
    return read_digits()


@lru_cache(TRAINED + HELD_OUT)  # every epoch asks for the same ones again
def draw(place: int) -> Drawn:
    """Return the picture of a number and its mask; from ``TRAINED`` on its digits are held out."""
    rng = np.random.default_rng(seed_of(DIGITS_ON_TEXTURES, place))
    digits = _digits().train if place < TRAINED else _digits().held_out
    ground, greys = _ground(rng)
    values, mask = ground, np.zeros((SIDE, SIDE), dtype=np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        which = int(rng.integers(digits.pictures))
        cover = _placed(rng, digits.read(which).convert("L"))
        values = (1 - cover) * values + cover * _ink(rng, greys)
        mask[cover > 1 / 2] = 1 + digits.targets[which]
    values = values + rng.normal(0, 0.03, values.shape)
    return Drawn(Image.fromarray(np.clip(255 * values, 0, 255).astype(np.uint8)), Image.fromarray(mask))


def _ground(rng: np.random.Generator) -> tuple[NDArray[np.float64], list[float]]:
    """Return two textures (64, 64) at either side of a line through the picture's middle, and their greys, in [0, 1]."""
    turn = rng.uniform(0, 2 * pi)
    down, across = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    first = across * cos(turn) + down * sin(turn) > rng.uniform(-SIDE / 4, SIDE / 4)
    middle = rng.uniform(_NEAR, 1 - _NEAR)
    greys = [float(grey) for grey in np.clip(rng.uniform(middle - _NEAR / 2, middle + _NEAR / 2, 4), 0, 1)]
    one, other = (filled(rng, int(rng.integers(len(TEXTURES))), *greys[at : at + 2]) for at in (0, 2))
    return np.where(first, one, other), greys


def _ink(rng: np.random.Generator, greys: list[float]) -> float:
    """Return a grey in [0, 1] that is far from all of ``greys``."""
    low, high = min(greys) - _APART, max(greys) + _APART
    dark, light = max(low, 0.0), max(1 - high, 0.0)  # how much there is of either
    drawn = float(rng.uniform(0, dark + light))
    return drawn if drawn < dark else high + drawn - dark


def _placed(rng: np.random.Generator, digit: Image.Image) -> NDArray[np.float64]:
    """Return how much of each pixel (64, 64) a digit covers, at a size, turn and place that are drawn."""
    side = int(rng.integers(SMALLEST, LARGEST + 1))
    left, top = (int(rng.integers(-side // 8, SIDE - side + side // 8 + 1)) for _ in range(2))
    large = ImageOps.expand(digit, _MARGIN).resize((side, side), Image.Resampling.BICUBIC)
    turned = large.rotate(float(rng.uniform(-_STEEPEST, _STEEPEST)), Image.Resampling.BICUBIC)
    whole = Image.new("L", (SIDE, SIDE))
    whole.paste(turned, (left, top))
    strength = np.asarray(whole) / 255
    return np.clip((strength - 0.3) / 0.3, 0, 1)  # strokes with an edge of a pixel or two, not of a blurred 8x8 picture

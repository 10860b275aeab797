"""Generated pictures that ask for two scales at once: a class is a coarse outline and the fine texture that fills it.

4 outlines times 4 textures are 16 classes; size, turn, place and both grey levels are drawn, and so are other textures'
patches beside the outline, lines across it, and noise. Nothing is stored: a picture is drawn from its number. It was written
before any network was trained on it and is not tuned to what paths see.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from mpvit.training import seed_of
from mpvit.training.data import SCALES, Data, Part
from mpvit.training.data import SCALES_SIDE as SIDE

TRAINED, HELD_OUT = 16_000, 2_000

OUTLINES = {"triangle": 3, "square": 4, "pentagon": 5, "circle": 40}
"""Corners of each."""

TEXTURES = ("stripes", "checks", "dots", "noise")
"""Of 2 to 4 pixels a period."""

CLASSES = tuple(f"{outline}, {texture}" for outline, texture in product(OUTLINES, TEXTURES))

_SAMPLES = 4
"""Points a pixel's side of an outline is drawn with."""


class _Drawn:
    def read(self, place: int) -> Image.Image:
        return draw(place).convert("RGB")

    def name(self, place: int) -> str:
        return f"{SCALES}[{place}]"


def read_scales() -> Data:
    """Return 16 000 pictures to learn from and 2000 held out, 64x64, as many of each class as comes out even."""
    source = _Drawn()
    train, held_out = (
        Part(source, tuple(places), tuple(place % len(CLASSES) for place in places))
        for places in (range(TRAINED), range(TRAINED, TRAINED + HELD_OUT))
    )
    return Data(SCALES, SCALES, CLASSES, train, held_out)


@lru_cache(TRAINED + HELD_OUT)  # every epoch of every run asks for the same ones again
def draw(place: int) -> Image.Image:
    """Return the picture of a number, grey, 64x64; its class is the remainder by 16."""
    rng = np.random.default_rng(seed_of(SCALES, place))
    outline, texture = divmod(place % len(CLASSES), len(TEXTURES))
    ground, ink = _greys(rng)
    values = np.full((SIDE, SIDE), ground)
    for _ in range(int(rng.integers(1, 4))):  # patches of any texture, which say nothing
        patch = _outline(rng, corners=int(rng.integers(3, 8)), radius=rng.uniform(3, 6))
        values = np.where(patch > 1 / 2, filled(rng, int(rng.integers(len(TEXTURES))), ground, ink), values)
    inside = _outline(rng, list(OUTLINES.values())[outline], radius=rng.uniform(12, 26))
    values = (1 - inside) * values + inside * filled(rng, texture, ground, ink)
    for _ in range(int(rng.integers(0, 3))):
        values = _crossed(rng, values)
    values = values + rng.normal(0, 0.06, values.shape)
    grey = np.clip(255 * values, 0, 255).astype(np.uint8)
    return Image.fromarray(grey)


def _greys(rng: np.random.Generator) -> tuple[float, float]:
    """Return two grey levels in [0, 1], a fifth apart or more."""
    ground, ink = rng.uniform(0, 1, 2)
    while abs(ground - ink) < 1 / 5:
        ground, ink = rng.uniform(0, 1, 2)
    return float(ground), float(ink)


def _outline(rng: np.random.Generator, corners: int, radius: float) -> np.ndarray:
    """Return how much of each pixel (64, 64) is inside a regular outline, wherever and however turned it is."""
    reach = min(radius, SIDE / 2 - 2)
    x, y = rng.uniform(reach, SIDE - reach, 2)
    turn = rng.uniform(0, 2 * pi)
    places = [
        (_SAMPLES * (x + radius * cos(turn + 2 * pi * k / corners)), _SAMPLES * (y + radius * sin(turn + 2 * pi * k / corners)))
        for k in range(corners)
    ]
    fine = Image.new("L", (_SAMPLES * SIDE, _SAMPLES * SIDE))
    ImageDraw.Draw(fine).polygon(places, fill=255)
    return np.asarray(fine.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255


def filled(rng: np.random.Generator, texture: int, ground: float, ink: float) -> np.ndarray:
    """Return a texture (64, 64) of two greys at any turn and period."""
    turn, period = rng.uniform(0, pi), rng.uniform(3, 5)
    down, across = np.mgrid[:SIDE, :SIDE] + rng.uniform(0, period, 2)[:, None, None]
    along = (across * cos(turn) + down * sin(turn)) * 2 * pi / period
    over = (down * cos(turn) - across * sin(turn)) * 2 * pi / period
    if TEXTURES[texture] == "stripes":
        height = np.sin(along)
    elif TEXTURES[texture] == "checks":
        height = np.sin(along) * np.sin(over)
    elif TEXTURES[texture] == "dots":
        height = np.sin(along) + np.sin(over) - 0.7
    else:
        height = rng.normal(0, 1, (SIDE, SIDE))
    return np.where(height > 0, ink, ground)


def _crossed(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Return a picture with a thin line of any grey through it."""
    image = Image.fromarray((255 * values.clip(0, 1)).astype(np.uint8))
    ends = [tuple(map(float, end)) for end in rng.uniform(0, SIDE, (2, 2))]
    ImageDraw.Draw(image).line([ends[0], ends[1]], fill=int(rng.integers(0, 256)), width=1)
    return np.asarray(image) / 255

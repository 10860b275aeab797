"""Generated images whose classes need two scales at once: a class is a coarse outline and the fine texture that fills it.

4 outlines times 4 textures are 16 classes. Size, rotation, position and both grey levels are random, and so are patches of
other textures next to the outline, lines across it, and noise. Nothing is stored: an image is generated from its index. The
generator was written before any network was trained on it, and was not tuned to the receptive fields of paths.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

from mpvit.training import seed_of
from mpvit.training.data import GENERATED_SIZE, SCALES
from mpvit.training.data.splits import Data, ImageSource, Split

TRAIN, HELD_OUT = 16_000, 2_000

OUTLINES = {"triangle": 3, "square": 4, "pentagon": 5, "circle": 40}
"""Number of corners of each outline."""

TEXTURES = ("stripes", "checks", "dots", "noise")
"""Textures with a period of 2 to 4 pixels."""

CLASSES = tuple(f"{outline}, {texture}" for outline, texture in product(OUTLINES, TEXTURES))

_SUBPIXELS = 4
"""Points along the side of a pixel at which an outline is drawn."""


class _Generator(ImageSource):
    def read(self, index: int) -> Image.Image:
        return generate(index).convert("RGB")


def read_scales() -> Data:
    """Return 16 000 training images and 2000 held-out images, 64x64, with the classes in turn."""
    indices = range(TRAIN + HELD_OUT)
    source = _Generator(tuple(f"{SCALES}[{index}]" for index in indices))
    return Data.of(SCALES, SCALES, CLASSES, Split.of(source, [index % len(CLASSES) for index in indices]), TRAIN)


@lru_cache(TRAIN + HELD_OUT)  # every epoch of every run reads the same images
def generate(index: int) -> Image.Image:
    """Return the image of an index, grey, 64x64; its class is the index modulo 16."""
    rng = np.random.default_rng(seed_of(SCALES, index))
    outline, texture = divmod(index % len(CLASSES), len(TEXTURES))
    ground, ink = _grey_levels(rng)
    values = np.full((GENERATED_SIZE, GENERATED_SIZE), ground)
    for _ in range(int(rng.integers(1, 4))):  # patches of any texture, which do not depend on the class
        patch = _coverage(rng, corners=int(rng.integers(3, 8)), radius=rng.uniform(3, 6))
        values = np.where(patch > 1 / 2, textured(rng, int(rng.integers(len(TEXTURES))), ground, ink), values)
    inside = _coverage(rng, list(OUTLINES.values())[outline], radius=rng.uniform(12, 26))
    values = (1 - inside) * values + inside * textured(rng, texture, ground, ink)
    for _ in range(int(rng.integers(0, 3))):
        values = _with_line(rng, values)
    values = values + rng.normal(0, 0.06, values.shape)
    return Image.fromarray(np.clip(255 * values, 0, 255).astype(np.uint8))


def _grey_levels(rng: np.random.Generator) -> tuple[float, float]:
    """Return two grey levels in [0, 1] that differ by at least a fifth."""
    ground, ink = rng.uniform(0, 1, 2)
    while abs(ground - ink) < 1 / 5:
        ground, ink = rng.uniform(0, 1, 2)
    return float(ground), float(ink)


def _coverage(rng: np.random.Generator, corners: int, radius: float) -> np.ndarray:
    """Return the share of each pixel, (64, 64), inside a regular outline at a random position and rotation."""
    reach = min(radius, GENERATED_SIZE / 2 - 2)
    x, y = rng.uniform(reach, GENERATED_SIZE - reach, 2)
    angles = rng.uniform(0, 2 * pi) + 2 * pi * np.arange(corners) / corners
    points = [(_SUBPIXELS * (x + radius * cos(angle)), _SUBPIXELS * (y + radius * sin(angle))) for angle in angles]
    fine = Image.new("L", (_SUBPIXELS * GENERATED_SIZE, _SUBPIXELS * GENERATED_SIZE))
    ImageDraw.Draw(fine).polygon(points, fill=255)
    return np.asarray(fine.resize((GENERATED_SIZE, GENERATED_SIZE), Image.Resampling.BOX)) / 255


def textured(rng: np.random.Generator, texture: int, ground: float, ink: float) -> np.ndarray:
    """Return a texture, (64, 64), of two grey levels at a random rotation and period."""
    turn, period = rng.uniform(0, pi), rng.uniform(3, 5)
    down, across = np.mgrid[:GENERATED_SIZE, :GENERATED_SIZE] + rng.uniform(0, period, 2)[:, None, None]
    along = (across * cos(turn) + down * sin(turn)) * 2 * pi / period
    over = (down * cos(turn) - across * sin(turn)) * 2 * pi / period
    if TEXTURES[texture] == "stripes":
        height = np.sin(along)
    elif TEXTURES[texture] == "checks":
        height = np.sin(along) * np.sin(over)
    elif TEXTURES[texture] == "dots":
        height = np.sin(along) + np.sin(over) - 0.7
    else:
        height = rng.normal(0, 1, (GENERATED_SIZE, GENERATED_SIZE))
    return np.where(height > 0, ink, ground)


def _with_line(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """Return an image, (64, 64), with a thin line of a random grey level across it."""
    image = Image.fromarray((255 * values.clip(0, 1)).astype(np.uint8))
    start, end = (tuple(map(float, point)) for point in rng.uniform(0, GENERATED_SIZE, (2, 2)))
    ImageDraw.Draw(image).line([start, end], fill=int(rng.integers(0, 256)), width=1)
    return np.asarray(image) / 255

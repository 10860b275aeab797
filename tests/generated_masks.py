"""Generated images with masks, without files."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mpvit.training.data.splits import ImageSource, Split


@dataclass(frozen=True)
class GeneratedImages(ImageSource):
    """Arrays: images, (h, w, 3), and their masks, (h, w)."""

    masked = True
    images: list[Any]
    masks: list[Any]

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])

    def mask(self, index: int) -> Image.Image:
        return Image.fromarray(self.masks[index])

    @property
    def split(self) -> Split:
        return Split.of(self, (0,) * len(self.images))


def _named(images: list[Any], masks: list[Any]) -> GeneratedImages:
    return GeneratedImages(tuple(f"noise[{index}]" for index in range(len(images))), images, masks)


def noise(number: int, classes: int) -> GeneratedImages:
    """Images of several sizes, none smaller than 32, with random masks of ``classes``, a fifth of the pixels unlabelled."""
    rng = np.random.default_rng(number)
    sizes = [(32, 32), (32, 32), (32, 40), (48, 32)]
    images = [rng.integers(0, 256, (*sizes[i % 4], 3), dtype=np.uint8) for i in range(number)]
    masks = [
        np.where(rng.random(each.shape[:2]) < 0.2, 255, rng.integers(0, classes, each.shape[:2])).astype(np.uint8)
        for each in images
    ]
    return _named(images, masks)


def aligned(number: int) -> GeneratedImages:
    """Images whose grey levels are ten times their masks."""
    mask = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((12, 10))).astype(np.uint8)
    return _named([np.repeat(10 * mask[..., None], 3, axis=2)] * number, [mask] * number)

"""Generated images with masks, without files."""

from typing import Any

import numpy as np
from PIL import Image

from mpvit.training.data.splits import ImageSource, Split


class NoiseSource(ImageSource):
    """Images of several sizes, none smaller than 32, with random masks of ``classes``, a fifth of the pixels unlabelled."""

    masked = True

    def __init__(self, number: int, classes: int) -> None:
        rng = np.random.default_rng(number)
        sizes = [(32, 32), (32, 32), (32, 40), (48, 32)]
        self.images = [rng.integers(0, 256, (*sizes[i % 4], 3), dtype=np.uint8) for i in range(number)]
        self.masks: list[Any] = [
            np.where(rng.random(each.shape[:2]) < 0.2, 255, rng.integers(0, classes, each.shape[:2])).astype(np.uint8)
            for each in self.images
        ]

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])

    def mask(self, index: int) -> Image.Image:
        return Image.fromarray(self.masks[index])

    def name(self, index: int) -> str:
        return f"noise[{index}]"

    @property
    def split(self) -> Split:
        return Split.of(self, (0,) * len(self.images))


class AlignedSource(NoiseSource):
    """Images whose grey levels are ten times their masks."""

    def __init__(self, number: int) -> None:
        super().__init__(number, 4)
        self.masks = [np.kron(np.arange(1, 17).reshape(4, 4), np.ones((12, 10))).astype(np.uint8) for _ in range(number)]
        self.images = [np.repeat(10 * each[..., None], 3, axis=2) for each in self.masks]

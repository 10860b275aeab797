"""The handwritten digits that scikit-learn contains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mpvit.imports import require
from mpvit.training.data import DIGITS
from mpvit.training.data.splits import Data, ImageSource, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HELD_OUT = 360
"""Number of held-out digits, a fifth of all."""


@dataclass(frozen=True, slots=True)
class _Arrays(ImageSource):
    images: NDArray[np.uint8]

    def read(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index]).convert("RGB")


def read_digits() -> Data:
    """Return scikit-learn's 1797 handwritten digits of 8x8 pixels, white on black, 360 of them held out."""
    require("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    targets = [int(target) for target in digits.target]
    names = tuple(f"{DIGITS}[{index}]" for index in range(len(targets)))
    images = Split.of(_Arrays(names, np.rint(digits.images * (255 / 16)).astype(np.uint8)), targets)
    splits = train_test_split(np.arange(len(targets)), test_size=_HELD_OUT, stratify=targets, random_state=0, shuffle=True)
    train, held_out = (images.subset(sorted(map(int, split))) for split in splits)
    return Data(DIGITS, DIGITS, tuple(map(str, digits.target_names)), train, held_out)

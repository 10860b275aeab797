"""The handwritten digits inside scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from mpvit.extras import require
from mpvit.training.data import DIGITS, Data, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Arrays(NamedTuple):
    values: NDArray[np.uint8]

    def read(self, place: int) -> Image.Image:
        return Image.fromarray(self.values[place]).convert("RGB")

    def name(self, place: int) -> str:
        return f"{DIGITS}[{place}]"


def read_digits() -> Data:
    """Return the 1797 handwritten digits of 8x8 pixels inside scikit-learn, white on black, 360 of them held out."""
    require("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    values = np.rint(found.images * (255 / 16)).astype(np.uint8)
    targets = [int(target) for target in found.target]
    train, held_out = train_test_split(
        np.arange(len(targets)), test_size=_HELD_OUT, stratify=targets, random_state=0, shuffle=True
    )
    whole = Part(_Arrays(values), tuple(range(len(targets))), tuple(targets))
    classes = tuple(map(str, found.target_names))
    return Data(DIGITS, DIGITS, classes, whole.only(sorted(map(int, train))), whole.only(sorted(map(int, held_out))))


_HELD_OUT = 360
"""Digits, a fifth of them."""

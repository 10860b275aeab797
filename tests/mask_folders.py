"""A small folder of images and masks that a network learns in seconds, and a network of four stages for it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

_STAGE = """
[[stages]]
paths = 1
layers = 1
dim = 8
heads = 2
mlp_ratio = 1
"""

SQUARES = 4 * _STAGE
"""A network of four stages whose training step takes tens of milliseconds, as TOML."""

FOUR_STAGES = tomllib.loads(SQUARES)


def draw_squares(folder: Path, parts: Mapping[str, int], side: int = 32) -> Path:
    """Write the images of each split with their masks: bright squares on dark noise, the first row unlabelled."""
    rng = np.random.default_rng(0)
    for part, number in parts.items():
        for kind in ("images", "masks"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            values, mask = rng.integers(0, 90, (side, side, 3)), np.zeros((side, side), dtype=np.uint8)
            top, left = rng.integers(2, side // 2, 2)
            length = int(rng.integers(side // 4, side // 2))
            square = np.s_[top : top + length, left : left + length]
            values[square] += 150
            mask[square] = 1
            mask[0] = 255
            Image.fromarray(values.astype(np.uint8)).save(folder / "images" / part / f"{index:03}.jpg", quality=95)
            Image.fromarray(mask).save(folder / "masks" / part / f"{index:03}.png")
    (folder / "classes.txt").write_text("ground\nsquare\n")
    return folder

"""Small folders of images in classes that are easy to distinguish: generated, or crops of the photographs in scikit-learn."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

SMALL_NETWORK = """
[[stages]]
paths = 2
layers = 1
dim = 8
heads = 2
mlp_ratio = 1
"""
"""A network whose training step takes milliseconds, as TOML."""

SMALL = ("--size", "32", "--recipe", "small", "--workers", "0", "--threads", "1")
"""Options of a run that takes seconds."""


def paint(folder: Path, classes: Mapping[str, int], size: int = 24) -> Path:
    """Write the given number of images of each class: a class is a colour and a spacing of stripes, an image adds noise."""
    for place, (name, number) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        rng = np.random.default_rng(place)
        for index in range(number):
            values = rng.integers(0, 60, (size, size, 3))
            values[:: 2 + place, :, place % 3] += 150
            Image.fromarray(values.astype(np.uint8)).save(folder / name / f"{index:03}.png")
    return folder


def photograph(folder: Path, number: int, size: int = 64) -> Path:
    """Write ``number`` crops of each of the two photographs in scikit-learn, as JPEG: classes ``china`` and ``flower``."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    for name, photo in zip(("china", "flower"), load_sample_images().images, strict=True):
        (folder / name).mkdir(parents=True)
        for index in range(number):
            top, left = (int(rng.integers(length - size)) for length in photo.shape[:2])
            part = Image.fromarray(photo[top : top + size, left : left + size])
            part.save(folder / name / f"{index:03}.jpg", quality=90)
    return folder


def damage(path: Path) -> Path:
    """Truncate a file to its first half."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path

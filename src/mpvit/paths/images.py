"""The images of a view: image files, or held-out images of a dataset."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpvit.errors import MpvitError, UsageError
from mpvit.images import list_images, preprocess, read_image
from mpvit.imports import require
from mpvit.model.network import MPViT
from mpvit.prediction.inference import InferenceConfig, require_rgb
from mpvit.progress import untracked
from mpvit.training.data import DIGITS, find_damaged, open_data
from mpvit.training.data.class_folders import ImageFiles
from mpvit.training.data.splits import Data, Split, with_classes_of

if TYPE_CHECKING:
    from mpvit.prediction.loading import Predictor


class ViewImages(NamedTuple):
    """Readable images with their preprocessing.

    Attributes:
        name: name of the images for people.
        split: the images; their targets mean nothing without ``data``.
        config: preprocessing of the network, and the batch size.
        data: dataset of the images; None for files.
        unreadable: names of the images that cannot be read, with the reason.
    """

    name: str
    split: Split
    config: InferenceConfig
    data: Data | None = None
    unreadable: tuple[tuple[str, str], ...] = ()

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield batches of at most ``size`` images, as equal as possible: (b, 3, side, side)."""
        for indices in np.array_split(np.arange(len(self.split)), -(-len(self.split) // size)):
            images = [preprocess(self.split.read(int(index)), self.config) for index in indices]
            yield torch.from_numpy(np.stack(images))

    def displayed(self, index: int) -> NDArray[np.float64]:
        """Return an image as the network receives it, but without normalisation: (side, side, 3) in [0, 1]."""
        values = preprocess(self.split.read(index), self.config).transpose(1, 2, 0).astype(np.float64)
        return (values * self.config.std + self.config.mean).clip(0, 1)

    def targets(self, network: Predictor[MPViT]) -> tuple[int, ...]:
        """Return the class index of each image in the network; raise ``UsageError`` if the network has other classes."""
        if self.data is None:
            raise UsageError(f"{self.name}: images without classes")
        return with_classes_of(self.split, self.data, network.classes).targets


def find_images(
    network: Predictor[MPViT], config: InferenceConfig, files: Sequence[Path] | None, data: str | None, most: int | None
) -> ViewImages:
    """Return at most ``most`` images for ``network``: of ``files``, or held-out images of ``data``.

    Without both it is digits, if the network was trained on them or is untrained. Raises ``UsageError`` without both for any
    other network, and for a network or size that a view cannot use; else as ``named_images`` and ``held_out_images``.
    """
    require_rgb(network.model)
    least = 2 ** (len(network.model.config.stages) + 1) + 1
    if config.size < least:
        raise UsageError(f"size = {config.size}: must be at least {least}, so that the last stage has several tokens")
    if files:
        return named_images(list_images(files)[:most], config)
    about = network.about
    if data is None and about.trained and (about.training is None or about.training.data != DIGITS):
        raise UsageError("no images are named", hint="name image files, or data with a folder of class folders")
    require("sklearn" if data in (None, DIGITS) else "kornia")
    return held_out_images(DIGITS if data is None else data, most, config)


def named_images(paths: Sequence[Path], config: InferenceConfig) -> ViewImages:
    """Return the images of files; raise ``ImageError`` for the first that cannot be read."""
    for path in paths:
        read_image(path)
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} images"
    return ViewImages(name, Split.of(ImageFiles(tuple(map(str, paths)), tuple(paths)), (0,) * len(paths)), config)


def held_out_images(location: str, most: int | None, config: InferenceConfig) -> ViewImages:
    """Return at most ``most`` readable held-out images of the data at ``location``, at equal distances in their order.

    Raises ``UsageError`` if nothing is held out, and ``MpvitError`` if no image can be read.
    """
    data = open_data(location)
    data.require_held_out()
    total = len(data.held_out)
    number = min(most or total, total)
    chosen = data.held_out.subset(index * total // number for index in range(number))
    unreadable = tuple(find_damaged(replace(data, train=data.train.subset(()), held_out=chosen), 0, untracked))
    names = {name for name, _ in unreadable}
    split = chosen.subset(index for index in range(number) if chosen.name(index) not in names)
    if not len(split):
        raise MpvitError(f"no image of {data.name} can be read: {unreadable[0][1]}")
    return ViewImages(f"{data.name}, held out", split, config, data, unreadable)

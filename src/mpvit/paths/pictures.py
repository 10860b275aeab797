"""Which pictures are shown: files that a person names, or some of the pictures of data that a network has not learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from mpvit.errors import ImageError, MpvitError, UsageError
from mpvit.extras import require
from mpvit.images import list_images, preprocess, read_image
from mpvit.prediction.inference import require_rgb
from mpvit.training.data import DIGITS, open_data
from mpvit.training.data.class_folders import ImageFiles
from mpvit.training.data.splits import Split, with_classes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from mpvit.model.metadata import Preprocessing
    from mpvit.model.network import MPViT
    from mpvit.prediction.loading import Predictor
    from mpvit.training.data.splits import Data


class Pictures(NamedTuple):
    """Pictures that can be read, what a person calls them, those that cannot be read, and how a network sees them.

    The targets of ``part`` are of ``data``; without data they mean nothing.
    """

    name: str
    part: Split
    how: Preprocessing
    data: Data | None = None
    unreadable: tuple[tuple[str, str], ...] = ()

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield them all, at most ``size`` at a time and as many each time as can be: (b, 3, side, side)."""
        for places in np.array_split(np.arange(len(self.part)), -(-len(self.part) // size)):
            yield torch.from_numpy(np.stack([preprocess(self.part.read(int(place)), self.how) for place in places]))

    def shown(self, place: int) -> NDArray[np.float64]:
        """Return one as the network sees it, but in colours that a person sees: (side, side, 3) in [0, 1]."""
        values = preprocess(self.part.read(place), self.how).transpose(1, 2, 0).astype(np.float64)
        return (values * self.how.std + self.how.mean).clip(0, 1)

    def targets(self, network: Predictor[MPViT]) -> tuple[int, ...]:
        """Return the network's index of each picture's class; raise ``UsageError`` for classes that it does not know."""
        if self.data is None:
            raise UsageError(f"{self.name}: pictures without classes")
        return with_classes_of(self.part, self.data, network.classes).targets


def find_pictures(
    network: Predictor[MPViT], how: Preprocessing, files: Sequence[Path] | None, data: str | None, most: int | None
) -> Pictures:
    """Return at most ``most`` pictures for ``network``: of ``files``, else of those that ``data`` holds out.

    Where neither is named it is digits for a network that knows them or knows nothing yet, and ``UsageError`` for any other.
    Raises it too for a network or size that can be shown no pictures; errors are else those of the functions below.
    """
    require_rgb(network.model)
    require_size(how, len(network.model.config.stages))
    if files:
        return named_pictures(list_images(files)[:most], how)
    about = network.about
    if data is None and about.trained and (about.training is None or about.training.data != DIGITS):
        raise UsageError("no pictures are named", hint="--image FILE, or --data with a folder of class folders")
    require("sklearn" if data in (None, DIGITS) else "kornia")
    return held_out_pictures(DIGITS if data is None else data, most, how)


def named_pictures(paths: Sequence[Path], how: Preprocessing) -> Pictures:
    """Return the pictures in files; raise ``ImageError`` for the first that cannot be read."""
    for path in paths:
        read_image(path)
    source = ImageFiles(None, tuple(paths))
    name = str(paths[0]) if len(paths) == 1 else f"{len(paths)} pictures"
    return Pictures(name, Split.of(source, (0,) * len(paths)), how)


def held_out_pictures(text: str, most: int | None, how: Preprocessing) -> Pictures:
    """Return at most ``most`` of the pictures that the data ``text`` holds out, evenly over its classes' order.

    Those that cannot be read are left out and named. Raises ``UsageError`` where nothing is held out.
    """
    data = open_data(text)
    data.require_held_out()
    every = len(data.held_out)
    some = data.held_out.subset(index * every // min(most or every, every) for index in range(min(most or every, every)))
    reasons = {index: reason for index in range(len(some)) if (reason := _reason(some, index))}
    if len(reasons) == len(some):
        raise MpvitError(f"no picture of {data.name} can be read: {reasons[0]}")
    part = some.subset(index for index in range(len(some)) if index not in reasons)
    left_out = tuple((some.name(index), reason) for index, reason in reasons.items())
    return Pictures(f"{data.name}, held out", part, how, data, left_out)


def _reason(part: Split, index: int) -> str:
    """Return why a picture cannot be read; empty where it can."""
    try:
        part.read(index)
    except ImageError as error:
        return error.reason
    return ""


def require_size(how: Preprocessing, config_stages: int) -> None:
    """Raise ``UsageError`` where the last of so many stages would have one token: nothing could be said of places."""
    if how.size <= 2 ** (config_stages + 1):
        raise UsageError(
            f"size = {how.size}: the last stage would have one token", hint=f"at least {2 ** (config_stages + 1) + 1} pixels"
        )

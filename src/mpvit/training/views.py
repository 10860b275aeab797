"""Pictures as the network sees them: changed at random in training, each time otherwise, and as they are in evaluation."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from kornia.augmentation import (
    AugmentationSequential,
    Normalize,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
)
from kornia.augmentation.auto import RandAugment
from PIL.Image import Resampling
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from mpvit.errors import ImageError, MpvitError
from mpvit.images import center_crop, preprocess, preprocess_whole
from mpvit.training import seed_of
from mpvit.training.data import UNJUDGED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from mpvit.model.metadata import Preprocessing
    from mpvit.training.data import Part
    from mpvit.training.recipe import Recipe


class Place(NamedTuple):
    """A picture in an epoch."""

    epoch: int
    picture: int


class Order(Sampler[Place]):
    """The pictures of an ``epoch`` in an order drawn from (seed, epoch), from step ``start`` on; whole steps alone.

    Fewer pictures than ``batch`` are one step.
    """

    def __init__(self, pictures: int, batch: int, seed: int) -> None:
        """Stand at the beginning."""
        self.pictures, self.batch, self.seed = pictures, batch, seed
        self.epoch = self.start = 0

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return max(self.pictures // self.batch, 1)

    def __len__(self) -> int:
        """Return the pictures that are still to come in this epoch."""
        return min(self.steps * self.batch, self.pictures) - self.start * self.batch

    def __iter__(self) -> Iterator[Place]:
        """Yield them."""
        drawn = torch.Generator().manual_seed(seed_of(self.seed, "order", self.epoch))
        order = torch.randperm(self.pictures, generator=drawn)[: self.steps * self.batch]
        for index in order[self.start * self.batch :].tolist():
            yield Place(self.epoch, index)


Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge, in pixels."""

IGNORED = -100
"""The target of a pixel that is not judged, as torch's cross-entropy has it."""


class Changed(Dataset[tuple[Tensor, int | Tensor]]):
    """Pictures (3, size, size) with their classes, changed as a recipe has it by what (seed, epoch, picture) draws.

    Of a part with masks a picture comes with its mask, (size, size), cut, mirrored and moved alike: ``IGNORED`` where
    nothing is judged, and where the picture was not.
    """

    def __init__(self, part: Part, recipe: Recipe, preprocessing: Preprocessing) -> None:
        """Change nothing yet."""
        self.part, self.recipe, self.preprocessing = part, recipe, preprocessing

    def __len__(self) -> int:
        """Return how many there are."""
        return self.part.pictures

    def __getitem__(self, place: Place) -> tuple[Tensor, int | Tensor]:
        """Return one; raise ``MpvitError`` where it cannot be read."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.recipe.seed, "picture", place.epoch, place.picture))
            image = _read(self.part, place.picture)
            box = self._box(image) if self.recipe.resized_crop else None
            values = self._cut(image, box)  # (1, 3, size, size)
            if self.part.masks is None:
                return self._normalised(self._changes(values))[0], self.part.targets[place.picture]
            mask = self._cut_mask(_read_mask(self.part, place.picture), box)
            # kornia fills with 0 what comes in from outside: classes are counted from 1 meanwhile
            values, mask = self._changes(values, mask + 1)
            return self._normalised(values)[0], _targets(mask[0, 0].long() - 1)

    def _box(self, image: Image) -> Box:
        """Draw what is seen of a picture."""
        width, height = image.size
        corners = self._crop.forward_parameters((1, 3, height, width))["src"][0]  # (4, 2): x, y from the upper left on
        left, upper = corners[0].tolist()
        right, lower = (corners[2] + 1).tolist()
        return max(left, 0), max(upper, 0), min(right, width), min(lower, height)

    def _cut(self, image: Image, box: Box | None) -> Tensor:
        """Return what is seen of a picture, (1, 3, size, size) in [0, 1], by Pillow's antialiased bicubic filter."""
        size = self.recipe.size
        if box is None:
            return torch.from_numpy(preprocess(image, replace(self.preprocessing, mean=(0, 0, 0), std=(1, 1, 1))))[None]
        cut = image.resize((size, size), Resampling.BICUBIC, box=box)
        return torch.from_numpy(np.asarray(cut, dtype=np.float32).transpose(2, 0, 1)[None] / 255)

    def _cut_mask(self, mask: Image, box: Box | None) -> Tensor:
        """Return the same of a mask, (1, 1, size, size), each pixel the nearest one; -1 where nothing is judged."""
        size = self.recipe.size
        if box is None:
            cut = center_crop(mask, self.preprocessing.side, size, Resampling.NEAREST)
        else:
            cut = mask.resize((size, size), Resampling.NEAREST, box=box)
        values = torch.from_numpy(np.asarray(cut, dtype=np.float32))[None, None]
        return values.masked_fill(values == UNJUDGED, -1)

    @cached_property
    def _crop(self) -> RandomResizedCrop:
        size = self.recipe.size
        return RandomResizedCrop((size, size), scale=(self.recipe.resized_crop, 1.0))

    @cached_property
    def _changes(self) -> nn.Module:
        if self.part.masks is None:
            return self._steps
        if not len(self._steps):
            return _Unchanged()
        return AugmentationSequential(*self._steps, data_keys=["input", "mask"])

    @cached_property
    def _steps(self) -> nn.Sequential:
        recipe, steps = self.recipe, nn.Sequential()
        if recipe.flip:
            steps.append(RandomHorizontalFlip(p=recipe.flip))
        if recipe.operations:
            steps.append(RandAugment(n=recipe.operations, m=recipe.magnitude))
        if farthest := round(recipe.shift * recipe.size):
            steps.append(RandomCrop((recipe.size, recipe.size), padding=farthest, padding_mode="replicate"))
        return steps

    @cached_property
    def _normalised(self) -> nn.Module:
        steps = nn.Sequential(Normalize(torch.tensor(self.preprocessing.mean), torch.tensor(self.preprocessing.std)))
        if self.recipe.erasing:
            steps.append(RandomErasing(p=self.recipe.erasing))  # with the mean
        return steps


class _Unchanged(nn.Module):
    def forward(self, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return values, mask


class Plain(Dataset[tuple[Tensor, int]]):
    """Pictures (3, size, size) with their classes, as ``mpvit predict`` shows them."""

    def __init__(self, part: Part, preprocessing: Preprocessing) -> None:
        """Read nothing yet."""
        self.part, self.preprocessing = part, preprocessing

    def __len__(self) -> int:
        """Return how many there are."""
        return self.part.pictures

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return one; raise ``MpvitError`` where it cannot be read."""
        return torch.from_numpy(preprocess(_read(self.part, index), self.preprocessing)), self.part.targets[index]


class PlainMasked(Dataset[tuple[Tensor, Tensor]]):
    """Whole pictures (3, h, w) with their masks, each of the picture's own size, as ``mpvit predict`` shows them."""

    def __init__(self, part: Part, preprocessing: Preprocessing) -> None:
        """Read nothing yet."""
        self.part, self.preprocessing = part, preprocessing

    def __len__(self) -> int:
        """Return how many there are."""
        return self.part.pictures

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return one; raise ``MpvitError`` where it cannot be read."""
        picture = torch.from_numpy(preprocess_whole(_read(self.part, index), self.preprocessing))
        mask = torch.from_numpy(np.asarray(_read_mask(self.part, index), dtype=np.int64))
        return picture, _targets(mask.masked_fill(mask == UNJUDGED, -1))


def _targets(indices: Tensor) -> Tensor:
    """Return the indices of classes with ``IGNORED`` instead of -1."""
    return indices.masked_fill(indices < 0, IGNORED)


def _read(part: Part, index: int) -> Image:
    try:
        return part.read(index)
    except ImageError as error:
        raise MpvitError(f"{part.name(index)} cannot be read any more: {error.reason}") from None


def _read_mask(part: Part, index: int) -> Image:
    try:
        return part.mask(index)
    except ImageError as error:
        raise MpvitError(f"{part.name(index)} cannot be read any more: {error.reason}") from None


class Mixed(NamedTuple):
    """A batch of pictures, each with a share of its neighbour's in it, and the classes of both."""

    images: Tensor
    targets: Tensor
    others: Tensor
    share: float

    def loss(self, logits: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy, its targets shared as the pictures are: (b, classes) -> a number.

        Of masks it is the mean over all pixels, (b, classes, h, w) -> a number; those that are not judged count as 0, so that
        any number of processes and of parts of a batch comes to the same.
        """
        if self.targets.ndim > 1:
            each = nn.functional.cross_entropy(
                logits, self.targets, ignore_index=IGNORED, label_smoothing=smoothing, reduction="none"
            )
            return each.mean()
        own = nn.functional.cross_entropy(logits, self.targets, label_smoothing=smoothing)
        if self.share == 0:
            return own
        other = nn.functional.cross_entropy(logits, self.others, label_smoothing=smoothing)
        return (1 - self.share) * own + self.share * other


def mixed(images: Tensor, targets: Tensor, recipe: Recipe, *what: int) -> Mixed:
    """Return a batch with mixup or cutmix, of pairs of neighbours, by what (seed, ``what``) draws.

    Neighbours were shuffled already, and a process has both, so that any number of processes mixes the same pictures.
    Sources: Zhang et al., ICLR 2018 (arXiv:1710.09412); Yun et al., ICCV 2019 (arXiv:1905.04899).
    """
    rng = np.random.default_rng(seed_of(recipe.seed, "mix", *what))
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(recipe, kind)]
    if not kinds:
        return Mixed(images, targets, targets, 0.0)
    kind = kinds[int(rng.integers(len(kinds)))]
    alpha = getattr(recipe, kind)
    share = float(rng.beta(alpha, alpha))
    partner = torch.arange(len(images), device=images.device) ^ 1
    partner = torch.where(partner < len(images), partner, partner ^ 1)  # the last of an odd number stays itself
    if kind == "mixup":
        return Mixed(torch.lerp(images, images[partner], share), targets, targets[partner], share)
    height, width = images.shape[-2:]
    sides = [round(length * share**0.5) for length in (height, width)]
    centre = [int(rng.integers(length)) for length in (height, width)]
    (top, bottom), (left, right) = (
        (max(middle - side // 2, 0), min(middle - side // 2 + side, length))
        for middle, side, length in zip(centre, sides, (height, width), strict=True)
    )
    images = images.clone()
    images[..., top:bottom, left:right] = images[partner][..., top:bottom, left:right]
    return Mixed(images, targets, targets[partner], (bottom - top) * (right - left) / (height * width))

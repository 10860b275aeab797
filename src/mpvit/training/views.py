"""Pictures as the network sees them: changed at random in training, each time otherwise, and as they are in evaluation."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from kornia.augmentation import Normalize, RandomCrop, RandomErasing, RandomHorizontalFlip, RandomResizedCrop
from kornia.augmentation.auto import RandAugment
from PIL.Image import Resampling
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

from mpvit.errors import ImageError, MpvitError
from mpvit.prediction.images import preprocess
from mpvit.training import seed_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image

    from mpvit.model.card import Preprocessing
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


class Changed(Dataset[tuple[Tensor, int]]):
    """Pictures (3, size, size) with their classes, changed as a recipe has it by what (seed, epoch, picture) draws."""

    def __init__(self, part: Part, recipe: Recipe, preprocessing: Preprocessing) -> None:
        """Change nothing yet."""
        self.part, self.recipe, self.preprocessing = part, recipe, preprocessing

    def __len__(self) -> int:
        """Return how many there are."""
        return self.part.pictures

    def __getitem__(self, place: Place) -> tuple[Tensor, int]:
        """Return one; raise ``MpvitError`` where it cannot be read."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(self.recipe.seed, "picture", place.epoch, place.picture))
            values = self._cut(_read(self.part, place.picture))  # (1, 3, size, size)
            return self._normalised(self._changes(values))[0], self.part.targets[place.picture]

    def _cut(self, image: Image) -> Tensor:
        """Return what is seen of a picture, (1, 3, size, size) in [0, 1], by Pillow's antialiased bicubic filter."""
        size = self.recipe.size
        if not self.recipe.resized_crop:
            return torch.from_numpy(preprocess(image, replace(self.preprocessing, mean=(0, 0, 0), std=(1, 1, 1))))[None]
        width, height = image.size
        corners = self._crop.forward_parameters((1, 3, height, width))["src"][0]  # (4, 2): x, y from the upper left on
        left, upper = corners[0].tolist()
        right, lower = (corners[2] + 1).tolist()
        box = (max(left, 0), max(upper, 0), min(right, width), min(lower, height))
        cut = image.resize((size, size), Resampling.BICUBIC, box=box)
        return torch.from_numpy(np.asarray(cut, dtype=np.float32).transpose(2, 0, 1)[None] / 255)

    @cached_property
    def _crop(self) -> RandomResizedCrop:
        size = self.recipe.size
        return RandomResizedCrop((size, size), scale=(self.recipe.resized_crop, 1.0))

    @cached_property
    def _changes(self) -> nn.Module:
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


def _read(part: Part, index: int) -> Image:
    try:
        return part.read(index)
    except ImageError as error:
        raise MpvitError(f"{part.name(index)} cannot be read any more: {error.reason}") from None


class Mixed(NamedTuple):
    """A batch of pictures, each with a share of its neighbour's in it, and the classes of both."""

    images: Tensor
    targets: Tensor
    others: Tensor
    share: float

    def loss(self, logits: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy, its targets shared as the pictures are: (b, classes) -> a number."""
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

"""Torch datasets, for training and for evaluation, and the order of the images in an epoch."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from mpvit.errors import ImageError, MpvitError
from mpvit.images import preprocess, preprocess_whole
from mpvit.model.metadata import Preprocessing
from mpvit.training import seed_of
from mpvit.training.data.splits import UNLABELLED, Split
from mpvit.training.recipe import Recipe
from mpvit.training.transforms import IGNORE_INDEX, TrainTransform


class Sample(NamedTuple):
    """An image in an epoch."""

    epoch: int
    image: int


class EpochSampler(Sampler[Sample]):
    """The images of an epoch in random order, which depends only on (seed, epoch); starts at the first step of epoch 0.

    Only whole batches are sampled; fewer images than ``batch`` are one batch.
    """

    def __init__(self, images: int, batch: int, seed: int) -> None:
        self.images, self.batch, self.seed = images, batch, seed
        self.epoch = self.step = 0
        self.steps = max(images // batch, 1)  # per epoch

    def start_at(self, epoch: int, step: int = 0) -> None:
        """Continue at a step of an epoch, both counted from 0; accelerate would call a method ``set_epoch`` itself."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        return min(self.steps * self.batch, self.images) - self.step * self.batch

    def __iter__(self) -> Iterator[Sample]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", self.epoch))
        order = torch.randperm(self.images, generator=generator)[: self.steps * self.batch]
        for index in order[self.step * self.batch :].tolist():
            yield Sample(self.epoch, index)


class TrainDataset(Dataset[tuple[Tensor, int | Tensor]]):
    """Augmented images, (3, size, size), with their classes or their masks, (size, size).

    The augmentation of an image depends only on (seed, epoch, image). An image that cannot be read raises ``MpvitError``.
    """

    def __init__(self, split: Split, recipe: Recipe, preprocessing: Preprocessing) -> None:
        self.split, self.seed = split, recipe.seed
        self.transform = TrainTransform(recipe, preprocessing, masked=split.source.masked)

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, sample: Sample) -> tuple[Tensor, int | Tensor]:
        with torch.random.fork_rng(devices=[]):
            seed = seed_of(self.seed, "picture", sample.epoch, sample.image)  # the word is part of every recorded result
            torch.default_generator.manual_seed(seed)
            image = _read(self.split, self.split.read, sample.image)
            mask = _read(self.split, self.split.mask, sample.image) if self.split.source.masked else None
            values, classes = self.transform(image, mask)
            return values, self.split.targets[sample.image] if classes is None else classes


class EvaluationDataset(Dataset[tuple[Tensor, int | Tensor]]):
    """Images, preprocessed as for prediction: (3, size, size) with their classes, or whole, (3, h, w), with their masks.

    A mask keeps the size of its image file. An image that cannot be read raises ``MpvitError``.
    """

    def __init__(self, split: Split, preprocessing: Preprocessing) -> None:
        self.split, self.preprocessing = split, preprocessing

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        image = _read(self.split, self.split.read, index)
        if not self.split.source.masked:
            return torch.from_numpy(preprocess(image, self.preprocessing)), self.split.targets[index]
        mask = torch.from_numpy(np.asarray(_read(self.split, self.split.mask, index), dtype=np.int64))
        return torch.from_numpy(preprocess_whole(image, self.preprocessing)), mask.masked_fill(mask == UNLABELLED, IGNORE_INDEX)


def _read(split: Split, read: Callable[[int], Image], index: int) -> Image:
    try:
        return read(index)
    except ImageError as error:
        raise MpvitError(f"{split.name(index)} cannot be read any more: {error.reason}") from None

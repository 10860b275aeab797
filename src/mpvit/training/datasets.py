"""Torch datasets: images for training, augmented differently in each epoch, and images for evaluation."""

from collections.abc import Callable

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset

from mpvit.errors import ImageError, MpvitError
from mpvit.images import preprocess, preprocess_whole
from mpvit.model.metadata import Preprocessing
from mpvit.training import seed_of
from mpvit.training.data.splits import UNLABELLED, Split
from mpvit.training.recipe import Recipe
from mpvit.training.sampler import Sample
from mpvit.training.transforms import IGNORE_INDEX, TrainTransform


class TrainDataset(Dataset[tuple[Tensor, int | Tensor]]):
    """Augmented images, (3, size, size), with their classes or their masks, (size, size).

    The augmentation of an image depends only on (seed, epoch, image).
    """

    def __init__(self, split: Split, recipe: Recipe, preprocessing: Preprocessing) -> None:
        """Read nothing yet."""
        self.split, self.seed = split, recipe.seed
        self.transform = TrainTransform(recipe, preprocessing, masked=split.source.masked)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.split)

    def __getitem__(self, sample: Sample) -> tuple[Tensor, int | Tensor]:
        """Return an image and its target; raise ``MpvitError`` if it cannot be read."""
        with torch.random.fork_rng(devices=[]):
            seed = seed_of(self.seed, "picture", sample.epoch, sample.image)  # the word is part of every recorded result
            torch.default_generator.manual_seed(seed)
            image = _read(self.split, self.split.read, sample.image)
            mask = _read(self.split, self.split.mask, sample.image) if self.split.source.masked else None
            values, classes = self.transform(image, mask)
            return values, self.split.targets[sample.image] if classes is None else classes


class EvaluationDataset(Dataset[tuple[Tensor, int | Tensor]]):
    """Images, preprocessed as for prediction: (3, size, size) with their classes, or whole, (3, h, w), with their masks.

    A mask keeps the size of its image file.
    """

    def __init__(self, split: Split, preprocessing: Preprocessing) -> None:
        """Read nothing yet."""
        self.split, self.preprocessing = split, preprocessing

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        """Return an image and its target; raise ``MpvitError`` if it cannot be read."""
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

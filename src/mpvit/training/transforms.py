"""Transforms of images and masks for training: random crops, flips, shifts, RandAugment and erasing, then normalisation."""

from dataclasses import replace
from typing import Any

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
from PIL.Image import Image, Resampling
from torch import Tensor, nn

from mpvit.images import center_crop, preprocess
from mpvit.model.metadata import Preprocessing
from mpvit.training.data.splits import UNLABELLED
from mpvit.training.recipe import Recipe

Box = tuple[float, float, float, float]
"""Left, upper, right and lower edge, in pixels."""

IGNORE_INDEX = -100
"""Target of a pixel without class; the default of torch's cross-entropy."""


class TrainTransform:
    """Maps an image to (3, size, size), and its mask to (size, size), with the random augmentations of a recipe.

    ``preprocessing`` gives the evaluation crop, mean and std. Random numbers come from torch's default generator. The mask is
    cropped, flipped and shifted like its image; it has ``IGNORE_INDEX`` where it has no class, and where pixels come in from
    outside the image.
    """

    def __init__(self, recipe: Recipe, preprocessing: Preprocessing, *, masked: bool) -> None:
        self.recipe, self.preprocessing = recipe, preprocessing
        size = (recipe.size, recipe.size)
        self.crop = RandomResizedCrop(size, scale=(recipe.resized_crop, 1.0)) if recipe.resized_crop else None
        steps: list[Any] = []
        if recipe.flip:
            steps.append(RandomHorizontalFlip(p=recipe.flip))
        if recipe.operations:
            steps.append(RandAugment(n=recipe.operations, m=recipe.magnitude))
        if shift := round(recipe.shift * recipe.size):
            steps.append(RandomCrop(size, padding=shift, padding_mode="replicate"))
        both = masked and steps
        self.augment = AugmentationSequential(*steps, data_keys=["input", "mask"]) if both else nn.Sequential(*steps)
        self.finish = nn.Sequential(Normalize(torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)))
        if recipe.erasing:
            self.finish.append(RandomErasing(p=recipe.erasing))  # erased pixels get the mean

    def __call__(self, image: Image, mask: Image | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the augmented image and mask; None for a mask of None."""
        box = self._random_box(image)
        pixels = self._cropped(image, box)  # (1, 3, size, size)
        if mask is None:
            return self.finish(self.augment(pixels))[0], None
        classes = self._cropped_mask(mask, box)
        if len(self.augment):
            # kornia fills pixels from outside with 0, so classes are counted from 1 meanwhile
            pixels, shifted = self.augment(pixels, classes + 1)
            classes = shifted - 1
        classes = classes[0, 0].long()
        return self.finish(pixels)[0], classes.masked_fill(classes < 0, IGNORE_INDEX)

    def _random_box(self, image: Image) -> Box | None:
        """Return the box of a random crop, None for the evaluation crop."""
        if self.crop is None:
            return None
        width, height = image.size
        corners = self.crop.forward_parameters((1, 3, height, width))["src"][0]  # (4, 2): x, y, clockwise from the upper left
        left, upper = corners[0].tolist()
        right, lower = (corners[2] + 1).tolist()
        return max(left, 0), max(upper, 0), min(right, width), min(lower, height)

    def _cropped(self, image: Image, box: Box | None) -> Tensor:
        """Return the crop, (1, 3, size, size) in [0, 1], by Pillow's antialiased bicubic filter."""
        size = self.recipe.size
        if box is None:
            return torch.from_numpy(preprocess(image, replace(self.preprocessing, mean=(0, 0, 0), std=(1, 1, 1))))[None]
        crop = image.resize((size, size), Resampling.BICUBIC, box=box)
        return torch.from_numpy(np.asarray(crop, dtype=np.float32).transpose(2, 0, 1)[None] / 255)

    def _cropped_mask(self, mask: Image, box: Box | None) -> Tensor:
        """Return the same crop of a mask, (1, 1, size, size), by the nearest pixel; -1 for pixels without class."""
        size = self.recipe.size
        if box is None:
            crop = center_crop(mask, self.preprocessing.side, size, Resampling.NEAREST)
        else:
            crop = mask.resize((size, size), Resampling.NEAREST, box=box)
        values = torch.from_numpy(np.asarray(crop, dtype=np.float32))[None, None]
        return values.masked_fill(values == UNLABELLED, -1)

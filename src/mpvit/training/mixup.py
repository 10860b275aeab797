"""Mixup and CutMix of a batch, and the loss of a mixed batch.

Sources: Zhang et al., ICLR 2018 (arXiv:1710.09412); Yun et al., ICCV 2019 (arXiv:1905.04899).
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mpvit.training import seed_of
from mpvit.training.recipe import Recipe
from mpvit.training.transforms import IGNORE_INDEX


class MixedBatch(NamedTuple):
    """A batch of images that are mixed in pairs.

    Attributes:
        images: mixed images, (b, 3, h, w).
        targets: classes of the images, (b,), or masks, (b, h, w).
        others: classes of the images that are mixed in.
        share: share of the other image in each image.
    """

    images: Tensor
    targets: Tensor
    others: Tensor
    share: float

    def loss(self, logits: Tensor, smoothing: float) -> Tensor:
        """Return the cross-entropy, with targets mixed as the images are: (b, classes) -> ().

        For masks it is the mean over all pixels, (b, classes, h, w) -> (). Pixels without class count as 0, so that the number
        of processes and of parts of a batch does not change the result.
        """
        if self.targets.ndim > 1:
            losses = cross_entropy(logits, self.targets, ignore_index=IGNORE_INDEX, label_smoothing=smoothing, reduction="none")
            return losses.mean()
        own = cross_entropy(logits, self.targets, label_smoothing=smoothing)
        if self.share == 0:
            return own
        return (1 - self.share) * own + self.share * cross_entropy(logits, self.others, label_smoothing=smoothing)

    @property
    def likelier(self) -> Tensor:
        """The target with the larger share."""
        return self.targets if self.share <= 1 / 2 else self.others


def mix(images: Tensor, targets: Tensor, recipe: Recipe, *purpose: int) -> MixedBatch:
    """Return a batch with mixup or CutMix between neighbours; the random numbers depend only on (seed, ``purpose``).

    Batches are shuffled already, and both neighbours are in the same process, so that the number of processes does not
    change the result.
    """
    rng = np.random.default_rng(seed_of(recipe.seed, "mix", *purpose))
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(recipe, kind)]
    if not kinds:
        return MixedBatch(images, targets, targets, 0.0)
    kind = kinds[int(rng.integers(len(kinds)))]
    alpha = getattr(recipe, kind)
    share = float(rng.beta(alpha, alpha))
    partner = torch.arange(len(images), device=images.device) ^ 1
    partner = torch.where(partner < len(images), partner, partner ^ 1)  # the last image of an odd number is not mixed
    if kind == "mixup":
        return MixedBatch(torch.lerp(images, images[partner], share), targets, targets[partner], share)
    height, width = images.shape[-2:]
    (top, bottom), (left, right) = _rectangle(rng, (height, width), share)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[partner][..., top:bottom, left:right]
    return MixedBatch(mixed, targets, targets[partner], (bottom - top) * (right - left) / (height * width))


def _rectangle(rng: np.random.Generator, size: tuple[int, int], share: float) -> list[tuple[int, int]]:
    """Return (first, last) of each axis of a random rectangle with a share of the area, cut off at the edges."""
    lengths = [round(length * share**0.5) for length in size]
    centers = [int(rng.integers(length)) for length in size]
    starts = [center - length // 2 for center, length in zip(centers, lengths, strict=True)]
    return [(max(start, 0), min(start + length, whole)) for start, length, whole in zip(starts, lengths, size, strict=True)]

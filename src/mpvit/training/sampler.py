"""The order of the images in an epoch."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from mpvit.training import seed_of


class Sample(NamedTuple):
    """An image in an epoch."""

    epoch: int
    image: int


class EpochSampler(Sampler[Sample]):
    """The images of an epoch in random order, which depends only on (seed, epoch).

    Only whole batches are sampled; fewer images than ``batch`` are one batch.
    """

    def __init__(self, images: int, batch: int, seed: int) -> None:
        """Start at the first step of the first epoch."""
        self.images, self.batch, self.seed = images, batch, seed
        self.epoch = self.step = 0

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return max(self.images // self.batch, 1)

    def start_at(self, epoch: int, step: int = 0) -> None:
        """Continue at a step of an epoch, both counted from 0; accelerate would call a method ``set_epoch`` itself."""
        self.epoch, self.step = epoch, step

    def __len__(self) -> int:
        """Return the number of images from the current step to the end of the epoch."""
        return min(self.steps * self.batch, self.images) - self.step * self.batch

    def __iter__(self) -> Iterator[Sample]:
        """Yield these images."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, "order", self.epoch))
        order = torch.randperm(self.images, generator=generator)[: self.steps * self.batch]
        for index in order[self.step * self.batch :].tolist():
            yield Sample(self.epoch, index)

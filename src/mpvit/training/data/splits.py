"""Labelled images in a training split and a held-out split.

Images have one class each, or a mask with a class for each pixel.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from mpvit.errors import MpvitError, UsageError
from mpvit.training import seed_of

if TYPE_CHECKING:
    from PIL import Image

IMAGES, MASKS = "images", "masks"
"""Names of the two folders of data with masks."""

UNLABELLED = 255
"""Value of a mask's pixel that has no class; such a pixel is neither trained on nor evaluated."""

HELD_OUT_SHARE = 0.2
"""Share of each class that is held out if the data has no validation split of its own."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Images by index with their ``names`` for people, and with their masks if the class is ``masked``."""

    names: tuple[str, ...]
    masked: ClassVar[bool] = False

    def read(self, index: int) -> Image.Image:
        """Return an image as 8-bit RGB; raise ``ImageError``."""
        raise NotImplementedError

    def mask(self, index: int) -> Image.Image:
        """Return a mask of the size of its image, 8-bit grey: the class index or ``UNLABELLED`` for each pixel.

        Raises ``ImageError`` if it cannot be read, and ``UsageError`` if it does not fit its image or the classes.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Split:
    """Some images of a source, each with a class or a mask.

    Attributes:
        indices: indices of the images in the source.
        targets: class index of each image; 0 for images with masks.
        class_indices: class index that replaces each index in the masks; None leaves them as they are.
    """

    source: ImageSource
    indices: tuple[int, ...]
    targets: tuple[int, ...]
    class_indices: tuple[int, ...] | None = None

    @classmethod
    def of(cls, source: ImageSource, targets: Sequence[int]) -> Self:
        """Return all images of a source, one for each target."""
        return cls(source, tuple(range(len(targets))), tuple(targets))

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Image.Image:
        """Return an image as 8-bit RGB; raise ``ImageError``."""
        return self.source.read(self.indices[index])

    def mask(self, index: int) -> Image.Image:
        """Return the mask of an image; errors are those of ``ImageSource.mask``."""
        mask = self.source.mask(self.indices[index])
        if self.class_indices is None:
            return mask
        return mask.point([*self.class_indices, *range(len(self.class_indices), UNLABELLED + 1)])

    def name(self, index: int) -> str:
        """Return the name of an image for people."""
        return self.source.names[self.indices[index]]

    def subset(self, kept: Iterable[int]) -> Split:
        """Return the images at these positions of the split."""
        kept = list(kept)
        indices, targets = (tuple(values[index] for index in kept) for values in (self.indices, self.targets))
        return replace(self, indices=indices, targets=targets)


@dataclass(frozen=True, slots=True)
class Data:
    """Images to train on and held-out images.

    Attributes:
        location: argument that opens the same data with ``open_data`` from any working directory.
        share: share of each class that ``open_data`` holds out; 0 if the data has a validation split of its own.
        damaged: names of the images that cannot be read, with the reason; they are in neither split.
    """

    name: str
    location: str
    classes: tuple[str, ...]
    train: Split
    held_out: Split
    share: float = 0.0
    damaged: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, name: str, location: str, classes: Sequence[str], images: Split, train: int | None) -> Self:
        """Divide ``images``: the first ``train`` are trained on, the rest is held out; None holds out a share by hash."""
        if train is None:
            return cls(name, location, tuple(classes), *_hold_out(images), share=HELD_OUT_SHARE)
        held_out = images.subset(range(train, len(images)))
        return cls(name, location, tuple(classes), images.subset(range(train)), held_out)

    @property
    def masked(self) -> bool:
        """Whether the images have masks."""
        return self.train.source.masked

    @property
    def all(self) -> Split:
        """All images: the training split, then the held-out split."""
        train, held_out = self.train, self.held_out
        return replace(train, indices=train.indices + held_out.indices, targets=train.targets + held_out.targets)

    @property
    def fingerprint(self) -> str:
        """Digest of the names of the images and of their classes; the pixels are not part of it."""
        digest = hashlib.blake2b(digest_size=16)
        for split in (self.train, self.held_out):
            for index, target in enumerate(split.targets):
                digest.update(f"{split.name(index)}\0{self.classes[target]}\0".encode(errors="surrogateescape"))
            digest.update(b"\1")
        if self.masked:
            digest.update("\0".join(self.classes).encode())
        return digest.hexdigest()

    def require_held_out(self) -> None:
        """Raise ``UsageError`` if nothing is held out because no class has enough images."""
        if not len(self.held_out):
            most, target = max((number, target) for target, number in Counter(self.train.targets).items())
            where = "" if self.masked else f" in the largest class, {self.classes[target]!r}"
            message = f"data {self.name!r}: too few images to hold any out, {most}{where}"
            raise UsageError(message, hint="a class needs at least 3 images, or the data a folder val/ next to train/")

    def without(self, damaged: Collection[tuple[str, str]]) -> Data:
        """Return the data without damaged images; raise ``MpvitError`` if no training image of a class is left."""
        names = {name for name, _ in damaged}
        train, held_out = (
            split.subset(index for index in range(len(split)) if split.name(index) not in names)
            for split in (self.train, self.held_out)
        )
        left = Counter(train.targets)
        for target, number in Counter(self.train.targets).items():
            if not left[target]:
                what = f"{self.name}" if self.masked else f"class {self.classes[target]!r} of {self.name}"
                raise MpvitError(f"{what}: none of its {number} training images can be read")
        return replace(self, train=train, held_out=held_out, damaged=tuple(damaged))


def _hold_out(images: Split) -> tuple[Split, Split]:
    """Return the training split and the held-out split: the share of each class whose names come first by hash."""
    members: dict[int, list[int]] = {}
    for index, target in enumerate(images.targets):
        members.setdefault(target, []).append(index)
    held_out: set[int] = set()
    for indices in members.values():
        by_hash = sorted(indices, key=lambda index: seed_of(Path(images.name(index)).as_posix()))
        held_out.update(by_hash[: round(HELD_OUT_SHARE * len(indices))])
    return images.subset(index for index in range(len(images)) if index not in held_out), images.subset(sorted(held_out))


def with_classes_of(split: Split, data: Data, classes: tuple[str, ...]) -> Split:
    """Return the images with the class indices of a network: by the names of the classes or, if no name fits, by their order.

    Raises ``UsageError`` if they fit in neither way.
    """
    indices = {name: index for index, name in enumerate(classes)}
    unknown = [name for name in data.classes if name not in indices]
    if not unknown:
        renumbered = tuple(indices[name] for name in data.classes)
        if data.masked:
            return replace(split, class_indices=renumbered)
        return replace(split, targets=tuple(renumbered[target] for target in split.targets))
    if len(data.classes) == len(classes):
        return split
    raise UsageError(
        f"{data.name} has {len(data.classes)} classes, the network {len(classes)}, and {unknown[0]!r} is not one of them",
        hint="classes are matched by their names or, if their number is the same, by their order",
    )

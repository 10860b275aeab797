"""Pictures in classes: a folder of class folders, scikit-learn's digits, generated scales, a data set of Hugging Face.

Or with masks, a class for each pixel: a folder of pictures and masks, and generated digits on textures.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mpvit.errors import MpvitError, UsageError
from mpvit.training import seed_of
from mpvit.training.recipe import Recipe, get_recipe
from mpvit.variants import SHIPPED, SMALL

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from PIL import Image

DIGITS = "digits"
SCALES = "scales"
DIGITS_ON_TEXTURES = "digits-on-textures"
STORED = "hf:"

SCALES_SIDE = 64
"""Of its pictures and of digits on textures, in pixels."""

BUILT_IN = (DIGITS, SCALES, DIGITS_ON_TEXTURES)
"""Data that is no files: small pictures, which need no large network."""

IMAGES, MASKS = "images", "masks"
"""The folders in one of pictures and masks."""

UNJUDGED = 255
"""In a mask a pixel of no class: nothing is learned from it, and no answer there is right or wrong."""

HELD_OUT = 0.2
"""The share of each class that is held out where the data has no part of its own for that."""

PARTS = ("val", "validation", "valid", "test")
"""What the pictures held out are called beside ``train``, the first that is there."""


class Source(Protocol):
    """Where pictures are read from, by their place in it."""

    def read(self, place: int) -> Image.Image:
        """Return the picture as 8-bit RGB; raise ``ImageError``."""

    def name(self, place: int) -> str:
        """Return what a person calls it."""


class Masks(Protocol):
    """Where masks are read from, by their place in it."""

    def mask(self, place: int) -> Image.Image:
        """Return the mask of a picture, 8-bit grey of its size: an index of a class or ``UNJUDGED`` for each pixel.

        Raises ``ImageError`` where it cannot be read, and ``UsageError`` where it is no mask of the picture.
        """


class Part(NamedTuple):
    """Some pictures of a source, each with the index of its class; or with a mask, and then 0 instead of that."""

    source: Source
    places: tuple[int, ...]
    targets: tuple[int, ...]
    masks: Masks | None = None

    def read(self, index: int) -> Image.Image:
        """Return a picture as 8-bit RGB; raise ``ImageError``."""
        return self.source.read(self.places[index])

    def mask(self, index: int) -> Image.Image:
        """Return the mask of a picture of a part that has masks; as ``Masks.mask``."""
        if self.masks is None:
            raise AssertionError("these pictures have no masks")
        return self.masks.mask(self.places[index])

    def name(self, index: int) -> str:
        """Return what a person calls it."""
        return self.source.name(self.places[index])

    def only(self, kept: Iterable[int]) -> Part:
        """Return the pictures of these indices."""
        kept = list(kept)
        return self._replace(
            places=tuple(self.places[index] for index in kept), targets=tuple(self.targets[index] for index in kept)
        )

    @property
    def pictures(self) -> int:
        """How many there are."""
        return len(self.places)


@dataclass(frozen=True, slots=True)
class Data:
    """Pictures to train on and pictures held out.

    Attributes:
        name: what a person calls it.
        where: what ``open_data`` opens it by, from any folder.
        classes: the names of the classes, by index.
        train: to learn from.
        held_out: never learned from.
        share: of each class held out by the rule of ``open_data``; 0 where the data brings its own part.
        damaged: what cannot be read, with the reason; it is in neither part.
    """

    name: str
    where: str
    classes: tuple[str, ...]
    train: Part
    held_out: Part
    share: float = 0.0
    damaged: tuple[tuple[str, str], ...] = ()

    @property
    def masked(self) -> bool:
        """Whether it has a class for each pixel, in masks, and not for each picture."""
        return self.train.masks is not None

    @property
    def all(self) -> Part:
        """Both parts; of one source."""
        return self.train._replace(
            places=self.train.places + self.held_out.places, targets=self.train.targets + self.held_out.targets
        )

    @property
    def fingerprint(self) -> str:
        """What tells these pictures in these classes from others: by their names, not by what they show."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.train, self.held_out):
            for index, target in enumerate(part.targets):
                digest.update(f"{part.name(index)}\0{self.classes[target]}\0".encode(errors="surrogateescape"))
            digest.update(b"\1")
        if self.masked:
            digest.update("\0".join(self.classes).encode())
        return digest.hexdigest()

    def require_trainable(self) -> None:
        """Raise ``UsageError`` where nothing is held out: no class has enough pictures for its share to be one."""
        if not self.held_out.pictures and self.masked:
            raise UsageError(
                f"data {self.name!r}: too few pictures to hold any out, {self.train.pictures}",
                hint=f"it needs at least 3, or a part of its own: {IMAGES}/val and {MASKS}/val",
            )
        if not self.held_out.pictures:
            most, target = max((number, target) for target, number in Counter(self.train.targets).items())
            raise UsageError(
                f"data {self.name!r}: too few pictures to hold any out, {most} in the largest class, {self.classes[target]!r}",
                hint="some class needs at least 3, or the data a part of its own: train/ and val/",
            )

    def without(self, damaged: Collection[tuple[str, str]]) -> Data:
        """Return the data without pictures that cannot be read; raise ``MpvitError`` where a class has no other."""
        names = {name for name, _ in damaged}
        train, held_out = (
            part.only(index for index in range(part.pictures) if part.name(index) not in names)
            for part in (self.train, self.held_out)
        )
        before, left = Counter(self.train.targets), Counter(train.targets)
        for target, number in before.items():
            if not left[target] and self.masked:
                raise MpvitError(f"{self.name}: none of its {number} pictures to learn from can be read")
            if not left[target]:
                raise MpvitError(f"class {self.classes[target]!r} of {self.name}: none of its {number} pictures can be read")
        return replace(self, train=train, held_out=held_out, damaged=tuple(damaged))


def open_data(text: str, *, masked: bool = False) -> Data:
    """Return the data that ``text`` names: ``digits``, ``scales``, a folder, or ``hf:`` and a folder of Hugging Face.

    A folder has class folders, or ``train`` and ``val`` with class folders in each. Where nothing is held out, a fifth of
    each class is, by the pictures' names: the same ones whatever else comes into the folder.
    ``masked`` data has masks, as a segmenter needs: ``digits-on-textures``, or a folder as in ``masks.read_masks``.
    Raises ``UsageError`` for what is no such folder, and ``MpvitError`` where a library that it needs is missing.
    """
    if masked:
        return _open_masked(text)
    from mpvit.training.data import digits, folder, scales, stored

    if text == DIGITS_ON_TEXTURES:
        raise UsageError(f"data {text!r}: has masks, which a segmenter alone learns", hint=SEGMENTER)
    if text == DIGITS:
        return digits.read_digits()
    if text == SCALES:
        return scales.read_scales()
    if text.startswith(STORED):
        return stored.read_stored(Path(text.removeprefix(STORED)))
    return folder.read_folder(
        _folder(text, f"name a folder of class folders, {STORED}FOLDER, or {DIGITS} or {SCALES}, which need none")
    )


def _open_masked(text: str) -> Data:
    from mpvit.training.data import digits_on_textures, masks

    if text == DIGITS_ON_TEXTURES:
        return digits_on_textures.read_digits_on_textures()
    if text in BUILT_IN or text.startswith(STORED):
        raise UsageError(
            f"data {text!r}: has no masks, which a segmenter learns", hint=f"{DIGITS_ON_TEXTURES} has, or a folder"
        )
    return masks.read_masks(
        _folder(text, f"name a folder with {IMAGES}/ and {MASKS}/, or {DIGITS_ON_TEXTURES}, which needs none")
    )


def _folder(text: str, hint: str) -> Path:
    try:
        there = Path(text).is_dir()
    except (OSError, ValueError):
        there = False
    if not there:
        raise UsageError(f"data {text!r}: is no folder", hint=hint)
    return Path(text)


SEGMENTER = "mpvit train --task semantic-fpn learns it"
"""What is said of data with masks where one of classes is wanted."""


def default_network(data: str | None, larger: str) -> str:
    """Return the network that learns ``data`` where none is named: one that comes along for small pictures, else ``larger``."""
    if data == DIGITS_ON_TEXTURES:
        return next(iter(SMALL))
    return next(iter(SHIPPED)) if data in BUILT_IN else larger


def recipe_for(data: str, name: str | None, *, masked: bool = False) -> tuple[str, Recipe]:
    """Return the recipe called ``name`` or, where that is None, the one that ``data`` is learned by; with its name.

    Raises ``UsageError`` for a name that there is not.
    """
    usual, small = ("segment", "segment-small") if masked else ("deit", "small")
    name = name or (small if data in BUILT_IN else usual)
    recipe = get_recipe(name)
    if data == SCALES and name == "small":  # its textures are a few pixels wide
        recipe = replace(recipe, size=SCALES_SIDE)
    return name, recipe


def require_classes(where: str, classes: Sequence[str]) -> None:
    """Raise ``UsageError`` for fewer than two classes, and for two that differ in case alone."""
    if not classes:
        raise UsageError(f"data {where!r}: holds no class folder", hint="each class is a folder with its pictures")
    if len(classes) == 1:
        raise UsageError(f"data {where!r}: holds one class, {classes[0]!r}: must be at least two")
    seen: dict[str, str] = {}
    for name in classes:
        if other := seen.get(name.casefold()):
            raise UsageError(f"data {where!r}: classes {other!r} and {name!r} are one on a disk that is blind to case")
        seen[name.casefold()] = name


def split(whole: Part) -> tuple[Part, Part]:
    """Return what is learned from and what is held out: of each class the share ``HELD_OUT`` that comes first by hash."""
    members: dict[int, list[int]] = {}
    for index, target in enumerate(whole.targets):
        members.setdefault(target, []).append(index)
    held: set[int] = set()
    for indices in members.values():
        drawn = sorted(indices, key=lambda index: seed_of(Path(whole.name(index)).as_posix()))
        held.update(drawn[: round(HELD_OUT * len(indices))])
    every = range(whole.pictures)
    return whole.only(index for index in every if index not in held), whole.only(sorted(held))

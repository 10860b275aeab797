"""A folder of pictures and masks: ``images/`` and ``masks/``, with ``train`` and ``val`` in each or without."""

from __future__ import annotations

from collections import Counter
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from mpvit.errors import ImageError, UsageError, file_reason
from mpvit.images import image_size, images_in, read_image, read_mask
from mpvit.training.data import HELD_OUT, IMAGES, MASKS, PARTS, UNJUDGED, Data, Part, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CLASSES = "classes.txt"

_LAYOUT = f"it has {IMAGES}/train/a.jpg with {MASKS}/train/a.png, the same in val/, and {CLASSES}: see docs/segment.md"


class _Pairs(NamedTuple):
    folder: Path
    paths: tuple[tuple[Path, Path], ...]
    classes: int

    def read(self, place: int) -> Image.Image:
        return read_image(self.paths[place][0])

    def name(self, place: int) -> str:
        return str(self.paths[place][0].relative_to(self.folder))

    def mask(self, place: int) -> Image.Image:
        picture, path = self.paths[place]
        values = read_mask(path)
        size, wanted = (values.shape[1], values.shape[0]), image_size(picture)
        if size != wanted:
            raise UsageError(
                f"mask {str(path)!r}: {size[0]} × {size[1]} pixels, its picture has {wanted[0]} × {wanted[1]}",
                hint="a mask has its picture's size, upright where that is turned by its EXIF orientation",
            )
        largest = _largest(values)
        if largest >= self.classes:
            raise UsageError(
                f"mask {str(path)!r}: holds class {largest}, there are {self.classes}",
                hint=f"indices go from 0 to {self.classes - 1}, a line of {CLASSES} each, and {UNJUDGED} is not judged",
            )
        return Image.fromarray(values.astype(np.uint8))


def read_masks(folder: Path) -> Data:
    """Return the pictures and masks below a folder; raise ``UsageError`` where one lacks the other, or it names no classes.

    Each picture ``images/…/a.jpg`` has its mask at ``masks/…/a.png``, of its size, with an index of a class in each pixel
    and 255 where there is none. ``train`` and ``val`` (or ``validation``, ``valid``, ``test``) in both folders are the
    parts; without ``val`` a fifth of the pictures is held out, by their names. ``classes.txt`` names the classes, one a
    line in the order of their indices; without it all masks are read for their largest index, and the indices are the
    names.
    """
    for each in (IMAGES, MASKS):
        if not (folder / each).is_dir():
            raise UsageError(f"data {str(folder)!r}: has no folder {each}/, which a segmenter learns from", hint=_LAYOUT)
    images = folder / IMAGES
    own = next((part for part in PARTS if (images / "train").is_dir() and (images / part).is_dir()), None)
    parts = [_paired(folder, part) for part in (("train" if (images / "train").is_dir() else ""), own) if part is not None]
    paths = tuple(chain.from_iterable(parts))
    classes = _classes(folder, (mask for _, mask in paths))
    source = _Pairs(folder, paths, len(classes))
    whole = Part(source, tuple(range(len(paths))), (0,) * len(paths), source)
    resolved = folder.resolve()
    name, where = resolved.name or str(resolved), str(resolved)
    if own is None:
        return Data(name, where, classes, *split(whole), share=HELD_OUT)
    ends = (0, len(parts[0]), len(paths))
    train, held_out = (whole.only(range(first, last)) for first, last in pairwise(ends))
    return Data(name, where, classes, train, held_out)


def _paired(folder: Path, part: str) -> list[tuple[Path, Path]]:
    """Return the pictures of a part, sorted, each with its mask."""
    images, masks = folder / IMAGES / part, folder / MASKS / part
    if not masks.is_dir():
        raise UsageError(f"data {str(folder)!r}: has {IMAGES}/{part} and no {MASKS}/{part}", hint=_LAYOUT)
    found = images_in(images)
    wanted = [masks / path.relative_to(images).with_suffix(".png") for path in found]
    there = {path for path in masks.rglob("*.png") if not path.name.startswith(".")}
    missing = [path for path, mask in zip(found, wanted, strict=True) if mask not in there]
    if missing:
        mask = (masks / missing[0].relative_to(images)).with_suffix(".png")
        raise UsageError(
            f"picture {str(missing[0])!r}: has no mask, as have {len(missing) - 1} others of {len(found)}",
            hint=f"it belongs at {mask}: a mask is a PNG file of its picture's name",
        )
    twice = next((mask for mask, number in Counter(wanted).items() if number > 1), None)
    if twice is not None:
        raise UsageError(f"mask {str(twice)!r}: belongs to two pictures of one name", hint="rename one of them, and its mask")
    if alone := sorted(there - set(wanted)):
        raise UsageError(
            f"mask {str(alone[0])!r}: has no picture, as have {len(alone) - 1} others", hint="remove it, or add its picture"
        )
    return list(zip(found, wanted, strict=True))


def _classes(folder: Path, masks: Iterable[Path]) -> tuple[str, ...]:
    """Return the names of the classes in ``classes.txt``, or else the indices up to the largest in ``masks``."""
    path = folder / CLASSES
    if path.exists():
        return _named(path)
    largest = 0
    for mask in masks:
        try:
            largest = max(largest, _largest(read_mask(mask)))
        except ImageError:  # it is left out, and named, when all are read
            continue
    if largest == 0:
        raise UsageError(f"data {str(folder)!r}: its masks hold one class, 0: must be at least two", hint=_LAYOUT)
    if largest >= UNJUDGED:
        raise UsageError(f"data {str(folder)!r}: its masks hold class {largest}: must be at most {UNJUDGED - 1}", hint=_LAYOUT)
    return tuple(map(str, range(largest + 1)))


def _named(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, ValueError) as error:
        reason = file_reason(error)
        raise UsageError(f"cannot read {str(path)!r}: {reason}", hint="one name a line, in the order of the indices") from None
    names = [line.strip() for line in lines]
    _require_names(path, names)
    return tuple(names)


def _require_names(path: Path, names: Sequence[str]) -> None:
    hint = "one name a line, in the order of the indices"
    if "" in names:
        raise UsageError(f"{str(path)!r}: line {names.index('') + 1} is empty", hint=hint)
    twice = next((name for name, number in Counter(names).items() if number > 1), None)
    if twice is not None:
        raise UsageError(f"{str(path)!r}: names {twice!r} twice", hint=hint)
    if not 1 < len(names) <= UNJUDGED:
        raise UsageError(f"{str(path)!r}: names {len(names)} classes: must be from 2 to {UNJUDGED}", hint=hint)


def _largest(values: NDArray[np.integer]) -> int:
    """Return the largest index in a mask, 0 where no pixel is judged."""
    return int(values[values != UNJUDGED].max(initial=0))

"""A folder of images and masks: ``images/`` and ``masks/``, each with or without ``train`` and ``val``."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mpvit.errors import ImageError, UsageError, file_reason
from mpvit.images import image_size, images_in, read_image, read_mask
from mpvit.training.data import folder_names, split_folders
from mpvit.training.data.splits import IMAGES, MASKS, UNLABELLED, Data, ImageSource, Split

CLASSES = "classes.txt"

_LAYOUT = f"it has {IMAGES}/train/a.jpg with {MASKS}/train/a.png, the same in val/, and {CLASSES}: see docs/segment.md"
_NAMES = "one name a line, in the order of the indices"


@dataclass(frozen=True, slots=True)
class _MaskedFiles(ImageSource):
    masked = True
    paths: tuple[tuple[Path, Path], ...]
    classes: int

    def read(self, index: int) -> Image.Image:
        return read_image(self.paths[index][0])

    def mask(self, index: int) -> Image.Image:
        image, path = self.paths[index]
        values = read_mask(path)
        size, expected = (values.shape[1], values.shape[0]), image_size(image)
        if size != expected:
            raise UsageError(
                f"mask {str(path)!r}: {size[0]} × {size[1]} pixels, its image has {expected[0]} × {expected[1]}",
                hint="a mask has the size of its image, after the image is turned upright by its EXIF orientation",
            )
        largest = _largest(values)
        if largest >= self.classes:
            raise UsageError(
                f"mask {str(path)!r}: has class {largest}, there are {self.classes}",
                hint=f"indices go from 0 to {self.classes - 1}, one for each line of {CLASSES}; {UNLABELLED} is no class",
            )
        return Image.fromarray(values.astype(np.uint8))


def read_mask_folder(folder: Path) -> Data:
    """Return the images and masks below a folder; raise ``UsageError`` if one is without the other, or classes are missing.

    The image ``images/…/a.jpg`` has its mask at ``masks/…/a.png``: of the same size, with a class index in each pixel, or 255
    for a pixel without class. ``train`` and ``val`` (or ``validation``, ``valid``, ``test``) in both folders are the splits;
    without them a fifth of the images is held out. ``classes.txt`` has the names of the classes; without it all masks are
    read for their largest index, and the indices are the names.
    """
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise UsageError(f"data {str(folder)!r}: has no folder {name}/, which a segmenter is trained on", hint=_LAYOUT)
    images = folder / IMAGES
    splits = [_pairs(folder, part.relative_to(images).as_posix()) for part in split_folders(images)]
    pairs = tuple(pair for split in splits for pair in split)
    classes = _class_names(folder, (mask for _, mask in pairs))
    source = _MaskedFiles(tuple(str(image.relative_to(folder)) for image, _ in pairs), pairs, len(classes))
    train = len(splits[0]) if len(splits) > 1 else None
    return Data.of(*folder_names(folder), classes, Split.of(source, (0,) * len(pairs)), train)


def _pairs(folder: Path, part: str) -> list[tuple[Path, Path]]:
    """Return the images of a split, sorted, each with its mask."""
    images, masks = folder / IMAGES / part, folder / MASKS / part
    if not masks.is_dir():
        raise UsageError(f"data {str(folder)!r}: has {IMAGES}/{part} and no {MASKS}/{part}", hint=_LAYOUT)
    found = images_in(images)
    wanted = [masks / path.relative_to(images).with_suffix(".png") for path in found]
    existing = {path for path in masks.rglob("*.png") if not path.name.startswith(".")}
    missing = [(path, mask) for path, mask in zip(found, wanted, strict=True) if mask not in existing]
    if missing:
        raise UsageError(
            f"image {str(missing[0][0])!r}: has no mask, and so have {len(missing) - 1} others of {len(found)}",
            hint=f"expected it at {missing[0][1]}: a mask is a PNG file with the name of its image",
        )
    twice = next((mask for mask, number in Counter(wanted).items() if number > 1), None)
    if twice is not None:
        raise UsageError(f"mask {str(twice)!r}: belongs to two images of one name", hint="rename one of them, and its mask")
    if extra := sorted(existing - set(wanted)):
        message = f"mask {str(extra[0])!r}: has no image, and so have {len(extra) - 1} others"
        raise UsageError(message, hint="remove it, or add its image")
    return list(zip(found, wanted, strict=True))


def _class_names(folder: Path, masks: Iterable[Path]) -> tuple[str, ...]:
    """Return the names of the classes in ``classes.txt``, or the indices up to the largest one in ``masks``."""
    path = folder / CLASSES
    if path.exists():
        return _read_names(path)
    largest = 0
    for mask in masks:
        try:
            largest = max(largest, _largest(read_mask(mask)))
        except ImageError:  # its image is left out, and named, when all images are checked
            continue
    if largest == 0:
        raise UsageError(f"data {str(folder)!r}: its masks have one class, 0: must be at least two", hint=_LAYOUT)
    if largest >= UNLABELLED:
        raise UsageError(
            f"data {str(folder)!r}: its masks have class {largest}: must be at most {UNLABELLED - 1}", hint=_LAYOUT
        )
    return tuple(map(str, range(largest + 1)))


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {str(path)!r}: {file_reason(error)}", hint=_NAMES) from None
    names = tuple(line.strip() for line in lines)
    twice, number = Counter(names).most_common(1)[0]
    if "" in names:
        complaint = f"line {names.index('') + 1} is empty"
    elif number > 1:
        complaint = f"names {twice!r} twice"
    elif not 1 < len(names) <= UNLABELLED:
        complaint = f"names {len(names)} classes: must be from 2 to {UNLABELLED}"
    else:
        return names
    raise UsageError(f"{str(path)!r}: {complaint}", hint=_NAMES)


def _largest(values: NDArray[np.integer]) -> int:
    """Return the largest class index in a mask; 0 if no pixel has a class."""
    return int(values[values != UNLABELLED].max(initial=0))

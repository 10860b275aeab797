"""Image files: finding them, reading them as a person sees them, and preparing them for the network."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from mpvit.errors import ImageError, MpvitError, UsageError, file_reason
from mpvit.model.card import Preprocessing

_WHITE_LEVELS = (1, 255, 4095, 65535)
"""What white may be in a grey image of more than 8 bits: floats in [0, 1], or 8, 12 and 16 bits in a wider number."""

_RECOGNISED_ONLY = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognises and cannot decode by itself."""

_BICUBIC_SUPPORT = 2
"""Pixels at each side of a point that a bicubic filter looks at, of source or result, whichever are larger."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation (Exif 2.3, tag 0x0112)."""

_ON_ITS_SIDE = (5, 6, 7, 8)
"""Orientations of which width and height change places."""

_LONGEST = 8
"""How much longer than wide a picture is shown whole; a longer one is squeezed, so that no line of pixels fills the memory."""


def image_paths(given: Iterable[Path]) -> list[Path]:
    """Return the files that are meant, in the order given: a folder stands for the images in and below it, sorted.

    In a folder an image is a file with the suffix of a format that Pillow reads; hidden files and folders are passed
    over. What is no folder is kept, even where it does not exist. Raises ``UsageError`` for a folder without images.
    """
    # Path.is_dir raises where a name is too long or may not be looked at; reading the file says so later.
    return [path for entry in given for path in (images_below(entry) if os.path.isdir(entry) else [entry])]  # noqa: PTH112


def require_one(paths: Sequence[Path]) -> None:
    """Raise ``MpvitError`` naming the first of ``paths`` where none exists, so that no weights are looked for in vain."""
    reasons = []
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reasons.append(file_reason(error))
        else:
            return
    others = f", nor can the other {len(paths) - 1}" if len(paths) > 1 else ""
    raise MpvitError(f"cannot predict {str(paths[0])!r}: {reasons[0]}{others}", hint="name images, or folders that hold some")


def images_below(folder: Path) -> list[Path]:
    """Return the images in and below a folder, sorted; raise ``UsageError`` where there are none."""
    Image.init()
    readable = Image.OPEN.keys() - _RECOGNISED_ONLY
    suffixes = {suffix for suffix, form in Image.registered_extensions().items() if form in readable}
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in suffixes]
    if not found:
        raise UsageError(
            f"folder {str(folder)!r}: holds no images", hint="images are told by their suffix, such as .jpg or .png"
        )
    return sorted(found)


def read_image(path: Path) -> Image.Image:
    """Return the image as 8-bit RGB, upright by its EXIF orientation.

    What is transparent is laid over white; of an animation it is the first frame; greys of more than 8 bits are scaled
    to 8. Colour profiles are passed over, as in the training of the published weights. Raises ``ImageError``.
    """
    try:
        # By its name Pillow would map an uncompressed TIFF into memory, and garble one that stands on its side.
        with path.open("rb") as file:
            return _decoded(file)
    except Exception as error:  # Pillow's decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise ImageError(str(path), _reason(error, lambda: path.stat().st_size == 0)) from error


def decode_image(data: bytes, name: str) -> Image.Image:
    """Return the image in the bytes of a file, as ``read_image`` does; ``name`` is what an ``ImageError`` calls it."""
    try:
        return _decoded(io.BytesIO(data))
    except Exception as error:
        raise ImageError(name, _reason(error, lambda: not data)) from error


def _decoded(file: BinaryIO) -> Image.Image:
    with warnings.catch_warnings():
        # Damaged metadata, and sizes from half of what Pillow refuses: large cameras take such photographs.
        warnings.simplefilter("ignore")
        with Image.open(file) as image:
            image.load()
            return _upright(_rgb(image), image.getexif().get(Base.Orientation, 1))


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image, upright by its EXIF orientation, from its head alone. Raises ``ImageError``."""
    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            width, height = image.size
            return (height, width) if image.getexif().get(Base.Orientation, 1) in _ON_ITS_SIDE else (width, height)
    except Exception as error:
        raise ImageError(str(path), _reason(error, lambda: path.stat().st_size == 0)) from error


def read_mask(path: Path) -> NDArray[np.integer[Any]]:
    """Return the indices in a mask, (height, width): of the palette where it has one, else greys.

    Raises ``ImageError``, and ``UsageError`` for one in colours.
    """
    try:
        with warnings.catch_warnings(), path.open("rb") as file, Image.open(file) as image:
            warnings.simplefilter("ignore")
            image.load()
            bands, values = image.getbands(), np.asarray(image)
    except Exception as error:
        reason = _reason(error, lambda: path.stat().st_size == 0)
        raise ImageError(str(path), f"its mask {path.name}: {reason}") from error
    if len(bands) != 1 or values.dtype.kind not in "bui":
        raise UsageError(
            f"mask {str(path)!r}: has the bands {', '.join(bands)}: must be one, of whole numbers",
            hint="each pixel of a mask is an index of a class: a grey PNG file, or one with a palette",
        )
    return values.astype(np.int64)


PUBLISHED = Preprocessing()
"""Of the published weights."""


def preprocess(image: Image.Image, how: Preprocessing = PUBLISHED) -> NDArray[np.float32]:
    """Return the centre of an RGB image as the network takes it: float32 (3, size, size), normalised; see ``centre``."""
    return _normalised(centre(image, how.side, how.size), how)


def whole(image: Image.Image, how: Preprocessing = PUBLISHED) -> NDArray[np.float32]:
    """Return all of an RGB image as a segmenter takes it: float32 (3, h, w), normalised, the short side ``how.size`` pixels."""
    short = min(image.size)
    width, height = (min(round(how.size * length / short), _LONGEST * how.size) for length in image.size)
    return _normalised(image.resize((width, height), Image.Resampling.BICUBIC), how)


def _normalised(image: Image.Image, how: Preprocessing) -> NDArray[np.float32]:
    values = np.asarray(image, dtype=np.float32) / 255  # (h, w, 3)
    mean, std = np.array(how.mean, dtype=np.float32), np.array(how.std, dtype=np.float32)
    return ((values - mean) / std).transpose(2, 0, 1).astype(np.float32, copy=False)


def centre(image: Image.Image, side: int, size: int, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """Return the centre, size x size pixels, of an RGB image or a mask whose short side is made ``side`` pixels long.

    The filter is Pillow's bicubic one where no other is named, and the long side follows (rounded down). Only what the centre
    depends on is resized, so that neither a panorama nor a large ``side`` costs memory.
    """
    x, y = (_centre(length, min(image.size), side, size) for length in image.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crop repeats the warning about large images
        part = image.crop((x.first, y.first, x.last, y.last))
    return part.resize((size, size), resampling, box=(x.start, y.start, x.end, y.end))


class _Centre(NamedTuple):
    """The pixels [first, last) of a side that its centre depends on, and where the centre is, counted from the first."""

    first: int
    last: int
    start: float
    end: float


def _centre(length: int, shortest: int, side: int, size: int) -> _Centre:
    """Return the part of a side of ``length`` pixels that becomes the centre ``size`` pixels of the resized side."""
    resized = side * length // shortest
    scale = length / resized
    start = round((resized - size) / 2) * scale
    end = min(start + size * scale, length)
    reach = _BICUBIC_SUPPORT * max(scale, 1) + 1
    first, last = max(0, math.floor(start - reach)), min(length, math.ceil(end + reach))
    return _Centre(first, last, start - first, end - first)


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Map greys (h, w) of any type to 0..255, black to black and white to white.

    White is the smallest usual level that no value exceeds; where there is none, or values are below 0, the darkest
    becomes black and the brightest white. NaN becomes black.
    """
    greys = values.astype(np.float64)
    finite = greys[np.isfinite(greys)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    level = next((level for level in _WHITE_LEVELS if low >= 0 and high <= level), None)
    black, white = (0, level) if level else (low, high)
    scaled = 255 * ((greys - black) / ((white - black) or 1)).clip(0, 1)
    return np.nan_to_num(np.rint(scaled)).astype(np.uint8)


def _reason(error: Exception, empty: Callable[[], bool]) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, which could fill the memory"
    if isinstance(error, UnidentifiedImageError):
        return "the file is empty" if empty() else "it is no image, or of a format that Pillow does not read"
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    return file_reason(error)

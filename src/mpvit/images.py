"""Image files: listing, decoding and preprocessing them, without torch."""

import io
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from mpvit.errors import ImageError, UsageError, file_reason
from mpvit.model.metadata import Preprocessing

PUBLISHED_PREPROCESSING = Preprocessing()
"""The preprocessing of the published weights."""

_WHITE_LEVELS = (1, 255, 4095, 65535)
"""Usual values of white in a grey image of more than 8 bits: floats in [0, 1], or 8, 12 and 16 bits in a wider number."""

_NEEDS_PLUGIN = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognises but cannot decode without a plugin."""

_BICUBIC_SUPPORT = 2
"""Radius of the bicubic filter, in pixels of the source or of the result, whichever are larger."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that undoes each EXIF orientation (Exif 2.3, tag 0x0112)."""

_SWAPS_SIDES = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""

_MAX_ASPECT = 8
"""Largest ratio of the sides of an image that is resized as a whole; a longer image is squeezed, which bounds the memory."""


def list_images(paths: Iterable[Path]) -> list[Path]:
    """Return the files in the order given, each folder replaced by ``images_in`` of it; a missing file is kept."""
    # Path.is_dir raises for names that are too long or not permitted; reading the file reports that later.
    return [file for path in paths for file in (images_in(path) if os.path.isdir(path) else [path])]  # noqa: PTH112


def images_in(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted, by the suffixes that Pillow reads; hidden ones are skipped.

    Raises ``UsageError`` if there are none.
    """
    Image.init()
    readable = Image.OPEN.keys() - _NEEDS_PLUGIN
    suffixes = {suffix for suffix, form in Image.registered_extensions().items() if form in readable}
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in files if not name.startswith(".") and Path(name).suffix.lower() in suffixes]
    if not found:
        hint = "images are recognised by their suffix, such as .jpg or .png"
        raise UsageError(f"folder {str(folder)!r}: holds no images", hint=hint)
    return sorted(found)


def read_image(path: Path) -> Image.Image:
    """Return the image as 8-bit RGB, upright by its EXIF orientation.

    Transparent pixels are composited over white, an animation gives its first frame, and greys of more than 8 bits are
    scaled to 8. Colour profiles are ignored, as in the training of the published weights. Raises ``ImageError``.
    """
    with _opened(path, str(path)) as image:
        return _upright_rgb(image)


def decode_image(data: bytes, name: str) -> Image.Image:
    """Return the image in the bytes of a file as ``read_image`` does; an ``ImageError`` names it ``name``."""
    with _opened(data, name) as image:
        return _upright_rgb(image)


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of the upright image; only the header of the file is read. Raises ``ImageError``."""
    with _opened(path, str(path)) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(Base.Orientation) in _SWAPS_SIDES else (width, height)


def read_mask(path: Path) -> NDArray[np.int64]:
    """Return the class indices in a mask, (height, width): palette indices if it has a palette, else grey levels.

    Raises ``ImageError`` if it cannot be read, and ``UsageError`` if it has colours.
    """
    try:
        with _opened(path, str(path)) as image:
            image.load()
            bands, values = image.getbands(), np.asarray(image)
    except ImageError as error:
        raise ImageError(str(path), f"its mask {path.name}: {error.reason}") from error
    if len(bands) != 1 or values.dtype.kind not in "bui":
        raise UsageError(
            f"mask {str(path)!r}: has the bands {', '.join(bands)}: must be one band of integers",
            hint="each pixel of a mask is a class index: save it as a grey PNG file, or as one with a palette",
        )
    return values.astype(np.int64)


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open an image without Pillow's warnings about damaged metadata and large sizes; raise any failure as ``ImageError``."""
    try:
        # Given a path, Pillow would map an uncompressed TIFF into memory and garble one that is rotated.
        with warnings.catch_warnings(), io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                yield image
    except Exception as error:  # Pillow's decoders raise anything: OSError, SyntaxError, struct.error, ...
        raise ImageError(name, _reason(error, source)) from error


def _reason(error: Exception, source: Path | bytes) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, which could fill the memory"
    if isinstance(error, UnidentifiedImageError):
        empty = not source if isinstance(source, bytes) else source.stat().st_size == 0
        return "the file is empty" if empty else "it is not an image, or its format is not one that Pillow reads"
    return "it does not fit into memory" if isinstance(error, MemoryError) else file_reason(error)


def _upright_rgb(image: Image.Image) -> Image.Image:
    image.load()
    upright = _UPRIGHT.get(image.getexif().get(Base.Orientation, 1))
    return _rgb(image) if upright is None else _rgb(image).transpose(upright)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Map greys (h, w) of any dtype to 0..255, black to black and white to white; NaN becomes black.

    White is the smallest level of ``_WHITE_LEVELS`` that no value exceeds. If there is none, or if values are negative, the
    darkest value becomes black and the brightest white.
    """
    greys = values.astype(np.float64)
    finite = greys[np.isfinite(greys)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    level = next((level for level in _WHITE_LEVELS if low >= 0 and high <= level), None)
    black, white = (0, level) if level else (low, high)
    scaled = 255 * ((greys - black) / ((white - black) or 1)).clip(0, 1)
    return np.nan_to_num(np.rint(scaled)).astype(np.uint8)


def preprocess(image: Image.Image, how: Preprocessing = PUBLISHED_PREPROCESSING) -> NDArray[np.float32]:
    """Return the centre of an RGB image as a classifier takes it: float32 (3, size, size), normalised."""
    return _normalised(center_crop(image, how.side, how.size), how)


def preprocess_whole(image: Image.Image, how: Preprocessing) -> NDArray[np.float32]:
    """Return a whole RGB image as a segmenter takes it: float32 (3, h, w), normalised, the short side ``how.size`` pixels."""
    short = min(image.size)
    width, height = (min(round(how.size * length / short), _MAX_ASPECT * how.size) for length in image.size)
    return _normalised(image.resize((width, height), Image.Resampling.BICUBIC), how)


def _normalised(image: Image.Image, how: Preprocessing) -> NDArray[np.float32]:
    values = np.asarray(image, dtype=np.float32) / 255  # (h, w, 3)
    mean, std = np.array(how.mean, dtype=np.float32), np.array(how.std, dtype=np.float32)
    return ((values - mean) / std).transpose(2, 0, 1).astype(np.float32, copy=False)


def center_crop(
    image: Image.Image, side: int, size: int, resampling: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Resize the short side to ``side`` pixels, the long side in proportion (rounded down), and return the central square.

    The square has ``size`` x ``size`` pixels. Only the part that it depends on is resized, so that neither a panorama nor a
    large ``side`` costs memory.
    """
    parts, boxes = zip(*(_center(length, min(image.size), side, size) for length in image.size), strict=True)
    (left, right), (upper, lower) = parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # crop repeats the warning about large images
        part = image.crop((left, upper, right, lower))
    (x_start, x_end), (y_start, y_end) = boxes
    return part.resize((size, size), resampling, box=(x_start, y_start, x_end, y_end))


def _center(length: int, shortest: int, side: int, size: int) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return the pixels [first, last) that the centre of one side depends on, and (start, end) of the centre within them.

    ``length`` is the side and ``shortest`` the short side of the image; the centre is ``size`` pixels of the resized side.
    """
    resized = side * length // shortest
    scale = length / resized
    start = round((resized - size) / 2) * scale
    end = min(start + size * scale, length)
    reach = _BICUBIC_SUPPORT * max(scale, 1) + 1
    first, last = max(0, math.floor(start - reach)), min(length, math.ceil(end + reach))
    return (first, last), (start - first, end - first)

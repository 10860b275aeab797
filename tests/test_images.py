from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image

from mpvit.errors import ImageError, UsageError
from mpvit.images import list_images, preprocess, read_image
from mpvit.model.metadata import Preprocessing

PHOTO = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
RAMP = np.array([[0, 64, 128], [191, 254, 255]], np.uint8)
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)


def grey(values: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    return np.repeat(np.array(values, np.uint8)[..., None], 3, axis=2)


def with_alpha(alpha: int) -> Image.Image:
    return Image.fromarray(np.dstack([COLOURS, np.full((2, 2), alpha, np.uint8)]))


def ints(values: list[list[int]], kind: str) -> Image.Image:
    return Image.fromarray(np.array(values, kind))


def floats(values: list[list[float]]) -> Image.Image:
    return Image.fromarray(np.array(values, np.float32))


def plain(colour: tuple[int, ...], mode: str) -> Image.Image:
    return Image.new(mode, (2, 2), colour)


def uniform(*colour: int) -> NDArray[np.uint8]:
    return np.full((2, 2, 3), colour, np.uint8)


SEEN: dict[str, tuple[Image.Image, str, dict[str, Any], NDArray[np.uint8]]] = {
    "rgb": (Image.fromarray(COLOURS), "PNG", {}, COLOURS),
    "grey": (Image.fromarray(RAMP), "PNG", {}, grey(RAMP)),
    "black and white": (Image.fromarray(RAMP > 100), "PNG", {}, grey(255 * (RAMP > 100))),
    "palette": (Image.fromarray(COLOURS).quantize(4), "PNG", {}, COLOURS),
    "first frame": (
        plain((255, 0, 0), "RGB"),
        "GIF",
        {"save_all": True, "append_images": [plain((0, 0, 255), "RGB")]},
        uniform(255, 0, 0),
    ),
    "opaque": (with_alpha(255), "PNG", {}, COLOURS),
    "invisible": (with_alpha(0), "PNG", {}, uniform(255, 255, 255)),
    "grey and alpha": (plain((100, 0), "LA"), "PNG", {}, uniform(255, 255, 255)),
    "half red": (plain((255, 0, 0, 128), "RGBA"), "WEBP", {"lossless": True}, uniform(255, 127, 127)),
    "colour key": (plain((0, 0, 255), "RGB"), "PNG", {"transparency": (0, 0, 255)}, uniform(255, 255, 255)),
    "palette key": (plain((7,), "P"), "GIF", {"transparency": 7}, uniform(255, 255, 255)),
    "cmyk tiff": (plain((0, 255, 255, 0), "CMYK"), "TIFF", {}, uniform(255, 0, 0)),
    "cmyk jpeg": (plain((0, 0, 0, 255), "CMYK"), "JPEG", {"quality": 100}, uniform(0, 0, 0)),
    "16 bits": (Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG", {}, grey(RAMP)),
    "16 bits, big-endian": (Image.fromarray((RAMP.astype(np.uint16) * 257).astype(">u2")), "TIFF", {}, grey(RAMP)),
    "16 bits, pgm": (Image.fromarray(RAMP.astype(np.uint16) * 257), "PPM", {}, grey(RAMP)),
    "12 of 16 bits": (ints([[0, 1024, 4095]], "uint16"), "PNG", {}, grey([[0, 64, 255]])),
    "8 of 16 bits": (Image.fromarray(RAMP.astype(np.uint16)), "PNG", {}, grey(RAMP)),
    "below zero": (ints([[-1000, 0, 3000]], "int32"), "TIFF", {}, grey([[0, 64, 255]])),
    "32 bits": (ints([[100_000, 200_000, 500_000]], "int32"), "TIFF", {}, grey([[0, 64, 255]])),
    "all black": (ints([[0, 0, 0]], "uint16"), "PNG", {}, grey([[0, 0, 0]])),
    "all alike": (ints([[-5, -5, -5]], "int32"), "TIFF", {}, grey([[0, 0, 0]])),
    "float to 1": (floats([[0, 0.25, 1]]), "TIFF", {}, grey([[0, 64, 255]])),
    "float to 255": (floats([[0, 64, 200]]), "TIFF", {}, grey([[0, 64, 200]])),
    "float, not all numbers": (floats([[0, np.nan, np.inf, 0.5]]), "TIFF", {}, grey([[0, 0, 255, 128]])),
    "float, no number": (floats([[np.nan, np.nan]]), "TIFF", {}, grey([[0, 0]])),
}


@pytest.mark.parametrize("case", SEEN)
def test_an_image_is_decoded_as_people_see_it(case: str, tmp_path: Path) -> None:
    image, form, options, expected = SEEN[case]
    path = tmp_path / "image"  # the content tells the format, not the name
    image.save(path, form, **options)
    seen = read_image(path)
    assert seen.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(seen), expected)


UPRIGHT: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {  # Exif 2.3: where the stored first row and column belong
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].T,
    8: np.rot90,
    99: lambda a: a,
}


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation(orientation: int, form: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / "turned", form, exif=exif)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "turned"))[..., 0], UPRIGHT[orientation](RAMP))


def test_a_real_photograph_is_untouched() -> None:
    seen = read_image(PHOTO)
    assert seen.size == (512, 600)
    with Image.open(PHOTO) as image:
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(image))


def test_damaged_metadata_does_not_hide_a_photograph(tmp_path: Path) -> None:
    with Image.open(PHOTO) as image:
        image.save(tmp_path / "photo.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert read_image(tmp_path / "photo.jpg").size == (512, 600)


def cut(path: Path, share: float) -> bytes:
    content = path.read_bytes()
    return content[: int(share * len(content))]


def png(folder: Path) -> Path:
    Image.fromarray(np.arange(30_000, dtype=np.uint8).reshape(100, 100, 3)).save(folder / "whole.png")
    return folder / "whole.png"


UNREADABLE: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "text": (lambda _: b"Dear reader,\n", "it is not an image, or its format is not one that Pillow reads"),
    "one byte": (lambda _: b"\x89", "it is not an image, or its format is not one that Pillow reads"),
    "empty": (lambda _: b"", "the file is empty"),
    "truncated jpeg": (lambda _: cut(PHOTO, 0.5), "image file is truncated"),
    "truncated png": (lambda folder: cut(png(folder), 0.5), "image file is truncated"),
    "header of a jpeg": (lambda _: cut(PHOTO, 0.0005), ""),
    "header of a png": (lambda folder: png(folder).read_bytes()[:20], ""),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_file_is_named_with_its_reason(case: str, tmp_path: Path) -> None:
    content, reason = UNREADABLE[case]
    path = tmp_path / "image.jpg"
    path.write_bytes(content(tmp_path))
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert str(caught.value) == f"cannot read image {str(path)!r}: {caught.value.reason}"
    assert caught.value.reason.startswith(reason)
    assert caught.value.reason
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "Is a directory"), ("missing.jpg", "No such file or directory"), ("n" * 300, "File name too long")],
)
def test_a_path_that_is_not_a_file_is_named_with_its_reason(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=reason):
        read_image(tmp_path / name)


@pytest.mark.parametrize("side", [10, 12])
def test_a_large_image_below_pillows_limit_is_read_without_a_warning(
    side: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow warns above its limit, here 100 pixels, and refuses images with more than twice as many pixels."""
    Image.new("RGB", (side, side), (1, 2, 3)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert preprocess(read_image(tmp_path / "large.png"), Preprocessing(4)).shape == (3, 4, 4)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (15, 15)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="more than 200 pixels"):
        read_image(tmp_path / "bomb.png")


def resize_then_crop(image: Image.Image, size: int, crop: float) -> NDArray[np.float64]:
    """The published preprocessing, step by step, as pixels in 0..255."""
    width, height = image.size
    short = round(size / crop)
    resized = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
    whole = image.resize(resized, Image.Resampling.BICUBIC)
    left, top = (round((length - size) / 2) for length in resized)
    return np.asarray(whole.crop((left, top, left + size, top + size))).transpose(2, 0, 1).astype(np.float64)


def pixels(prepared: NDArray[np.float32]) -> NDArray[np.float64]:
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return np.asarray(255 * (prepared * std + mean), np.float64)


@pytest.mark.parametrize(
    ("size", "crop", "width", "height"),
    [
        (224, 0.875, 512, 600),
        (224, 0.9, 300, 200),
        (97, 1, 31, 500),
        (32, 0.5, 1000, 40),
        (1, 0.875, 64, 64),
        (64, 0.875, 1, 1),
    ],
)
def test_preprocessing_is_resizing_then_cropping(size: int, crop: float, width: int, height: int) -> None:
    image = read_image(PHOTO).resize((width, height))
    prepared = preprocess(image, Preprocessing(size, crop))
    assert prepared.shape == (3, size, size)
    assert prepared.dtype == np.float32
    off = abs(pixels(prepared) - resize_then_crop(image, size, crop))
    assert off.max() < 1.001  # Pillow keeps positions in single precision: a rounding to 8 bits may fall the other way
    assert (off > 0.001).mean() < 0.001


def test_normalisation() -> None:
    prepared = preprocess(Image.new("RGB", (300, 200), (255, 0, 51)))
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(prepared, np.broadcast_to(np.array(expected)[:, None, None], (3, 224, 224)), rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 50_000_000), (50_000_000, 1)])
def test_a_line_of_any_length_costs_no_memory(shape: tuple[int, int]) -> None:
    """If the whole image were resized, it would take 10 TB."""
    line = Image.new("RGB", shape, (255, 0, 51))
    np.testing.assert_allclose(pixels(preprocess(line, Preprocessing(crop=0.01)))[:, 100, 100], [255, 0, 51], atol=0.01)


def test_images_in_folders_are_listed_sorted(tmp_path: Path) -> None:
    images = ["a.JPG", "b/c.png", "b/d/e.webp", "b/z.tiff", "f.gif"]
    for name in [*images, "notes.txt", "weights.h5", "b/.hidden.png", ".cache/x.png", "no_suffix"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    single, missing = tmp_path / "notes.txt", tmp_path / "missing.jpg"
    assert list_images([single, tmp_path, missing]) == [single, *(tmp_path / name for name in images), missing]


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds no images"):
        list_images([tmp_path])

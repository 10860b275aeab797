"""Folders of images and masks: their splits, classes and masks, and one clear error for each mistake."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mask_folders import draw_squares
from PIL import Image

from mpvit.errors import ImageError, UsageError
from mpvit.progress import untracked
from mpvit.training.data import find_damaged, open_data


def test_a_folder_of_images_and_masks(tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"train": 5, "val": 3})
    data = open_data(str(folder), masked=True)
    assert (data.name, data.classes, data.share, data.masked) == ("squares", ("ground", "square"), 0, True)
    assert (len(data.train), len(data.held_out)) == (5, 3)
    assert data.held_out.name(0) == "images/val/000.jpg"
    assert find_damaged(data, 0, untracked) == []
    (folder / "classes.txt").unlink()
    assert open_data(str(folder), masked=True).classes == ("0", "1")
    assert open_data(str(folder), masked=True).fingerprint != data.fingerprint


def test_a_fifth_is_held_out_without_a_validation_split(tmp_path: Path) -> None:
    data = open_data(str(draw_squares(tmp_path / "squares", {"": 20})), masked=True)
    assert (len(data.train), len(data.held_out), data.share) == (16, 4, 0.2)
    assert np.array_equal(np.asarray(data.train.mask(0)), np.asarray(data.all.mask(0)))


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_indices_are_read_from_greys_and_palettes(mode: str, tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"": 5})
    path = folder / "masks" / "002.png"
    values = np.asarray(Image.open(path))
    if mode == "P":
        image = Image.fromarray(values)
        image.putpalette([level for index in range(256) for level in (index, 0, 255 - index)])
    else:
        image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.uint8))
    image.save(path)
    data = open_data(str(folder), masked=True)
    (index,) = [index for index in range(5) if data.all.name(index).endswith("002.jpg")]
    assert np.array_equal(np.asarray(data.all.mask(index)), values)


def _mask(folder: Path, name: str = "000") -> Path:
    return folder / "masks" / "train" / f"{name}.png"


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _blank(folder: Path) -> None:
    (folder / "classes.txt").unlink()
    for path in (folder / "masks").rglob("*.png"):
        Image.new("L", (32, 32)).save(path)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no masks": (lambda folder: (folder / "masks").rename(folder / "labels"), "has no folder masks/"),
    "no images": (lambda folder: (folder / "images").rename(folder / "photos"), "has no folder images/"),
    "no masks of a split": (lambda folder: (folder / "masks/val").rename(folder / "val"), "has images/val and no masks/val"),
    "an image without mask": (lambda folder: _mask(folder).unlink(), "000.jpg': has no mask, and so have 0 others of 6"),
    "a mask without image": (
        lambda folder: _mask(folder).with_name("x.png").write_bytes(_mask(folder).read_bytes()),
        "x.png': has no image",
    ),
    "a mask as JPEG": (lambda folder: _mask(folder).rename(_mask(folder).with_suffix(".jpg")), "has no mask"),
    "one mask of two": (
        lambda folder: Image.new("RGB", (8, 8)).save(folder / "images" / "train" / "000.png"),
        "belongs to two images",
    ),
    "no image files": (lambda folder: _emptied(folder / "images" / "train"), "holds no images"),
    "another size": (lambda folder: Image.new("L", (7, 9)).save(_mask(folder)), "7 × 9 pixels, its image has 32 × 32"),
    "a class too many": (lambda folder: Image.new("L", (32, 32), 2).save(_mask(folder)), "has class 2, there are 2"),
    "colours": (lambda folder: Image.new("RGB", (32, 32)).save(_mask(folder)), "has the bands R, G, B: must be one"),
    "an empty line": (lambda folder: (folder / "classes.txt").write_text("a\n\nb\n"), "line 2 is empty"),
    "no line": (lambda folder: (folder / "classes.txt").write_text(""), "line 1 is empty"),
    "a name twice": (lambda folder: (folder / "classes.txt").write_text("a\na\n"), "names 'a' twice"),
    "one name": (lambda folder: (folder / "classes.txt").write_text("a\n"), "names 1 classes: must be from 2 to 255"),
    "no text": (lambda folder: (folder / "classes.txt").write_bytes(b"\xff\xfe\xff"), "not UTF-8"),
    "one class": (_blank, "its masks have one class, 0"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_mistake_in_a_folder_is_one_clear_error(name: str, tmp_path: Path) -> None:
    spoil, words = ODD[name]
    folder = draw_squares(tmp_path / "squares", {"train": 6, "val": 2})
    spoil(folder)
    with pytest.raises(UsageError) as caught:
        find_damaged(open_data(str(folder), masked=True), 0, untracked)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_mask_that_cannot_be_read_is_named_and_its_image_left_out(tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"train": 6, "val": 2})
    _mask(folder).write_bytes(b"")
    (folder / "images" / "val" / "001.jpg").write_bytes(b"no image")
    data = open_data(str(folder), masked=True)
    found = find_damaged(data, 0, untracked)
    assert [name for name, _ in found] == ["images/train/000.jpg", "images/val/001.jpg"]
    assert found[0][1] == "its mask 000.png: the file is empty"
    left = data.without(found)
    assert (len(left.train), len(left.held_out)) == (5, 1)
    with pytest.raises(ImageError):
        data.train.mask(0)


@pytest.mark.parametrize(
    ("text", "masked", "words"),
    [
        ("digits", True, "has no masks"),
        ("scales", True, "has no masks"),
        ("hf:x", True, "has no masks"),
        ("nowhere", True, "is not a folder"),
        ("digits-on-textures", False, "has masks, which only a segmenter is trained on"),
    ],
)
def test_data_without_masks_is_refused(
    text: str,
    masked: bool,  # noqa: FBT001
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words) as caught:
        open_data(text, masked=masked)
    assert caught.value.hint


def test_folders_of_images_and_masks_are_not_classes(tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"train": 2, "val": 1})
    with pytest.raises(UsageError, match="has images/ and masks/, which only a segmenter is trained on"):
        open_data(str(folder))


def test_too_few_images_to_hold_any_out(tmp_path: Path) -> None:
    data = open_data(str(draw_squares(tmp_path / "squares", {"": 2})), masked=True)
    with pytest.raises(UsageError, match="too few images to hold any out, 2"):
        data.require_held_out()

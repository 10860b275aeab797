"""Data: the training split and the held-out split, damaged images, and one clear error for each mistake in a folder."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import damage, paint
from PIL import Image

from mpvit.errors import ImageError, MpvitError, UsageError
from mpvit.progress import untracked
from mpvit.training.data import default_network, digits_on_textures, find_damaged, open_data, recipe_for
from mpvit.training.data.splits import Data, Split


def names(split: Split) -> list[str]:
    return [split.name(index) for index in range(len(split))]


def damaged(data: Data) -> list[tuple[str, str]]:
    return find_damaged(data, 0, untracked)


def test_a_fifth_of_each_class_is_held_out_and_stays_so_with_more_images(tmp_path: Path) -> None:
    folder = paint(tmp_path / "fruit", {"apple": 20, "pear": 10})
    data = open_data(str(folder))
    assert (data.name, data.classes, data.share) == ("fruit", ("apple", "pear"), 0.2)
    assert Counter(data.train.targets) == {0: 16, 1: 8}
    assert Counter(data.held_out.targets) == {0: 4, 1: 2}
    assert sorted(names(data.train) + names(data.held_out)) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*.png")
    )
    again = open_data(str(folder))
    assert (again.fingerprint, names(again.held_out)) == (data.fingerprint, names(data.held_out))
    shutil.copytree(folder / "pear", folder / "plum")
    assert set(names(data.held_out)) <= set(names(open_data(str(folder)).held_out))


@pytest.mark.parametrize("split", ["val", "validation", "test"])
def test_a_folder_may_have_its_own_validation_split(split: str, tmp_path: Path) -> None:
    paint(tmp_path / "train", {"ant": 3, "bee": 4})
    paint(tmp_path / split, {"ant": 2, "bee": 1})
    data = open_data(str(tmp_path))
    assert (len(data.train), len(data.held_out), data.share) == (7, 3, 0)
    assert names(data.held_out) == [f"{split}/ant/000.png", f"{split}/ant/001.png", f"{split}/bee/000.png"]
    assert len(data.all) == 10


def test_digits_are_those_of_scikit_learn() -> None:
    data = open_data("digits")
    assert (len(data.train), len(data.held_out), len(data.classes)) == (1437, 360, 10)
    assert set(data.train.indices).isdisjoint(data.held_out.indices)
    from sklearn.datasets import load_digits

    known = load_digits()
    for index in (0, 100, 359):
        place = data.held_out.indices[index]
        image = np.asarray(data.held_out.read(index))
        assert data.classes[data.held_out.targets[index]] == str(known.target[place])
        np.testing.assert_allclose(image[..., 0] / 255 * 16, known.images[place], atol=0.04)
    share = Counter(data.held_out.targets)
    assert all(abs(share[target] - number / 5) <= 1 for target, number in Counter(known.target.tolist()).items())


def test_damaged_images_are_named_and_left_out(tmp_path: Path) -> None:
    folder = paint(tmp_path / "fruit", {"apple": 10, "pear": 10})
    damage(folder / "apple" / "003.png")
    (folder / "pear" / "000.png").write_bytes(b"")
    (folder / "pear" / "note.txt").write_text("no image")
    data = open_data(str(folder))
    found = damaged(data)
    assert sorted(name for name, _ in found) == ["apple/003.png", "pear/000.png"]
    assert dict(found)["pear/000.png"] == "the file is empty"
    left = data.without(found)
    assert len(left.train) + len(left.held_out) == 18
    assert left.fingerprint != data.fingerprint
    assert damaged(left) == []


def test_a_class_without_readable_training_images_is_an_error(tmp_path: Path) -> None:
    folder = paint(tmp_path / "fruit", {"apple": 5, "pear": 2})
    for path in (folder / "pear").iterdir():
        damage(path)
    data = open_data(str(folder))
    with pytest.raises(MpvitError, match=r"class 'pear' of fruit: none of its 2 training images can be read"):
        data.without(damaged(data))


def test_a_dataset_of_hugging_face_on_disk(tmp_path: Path) -> None:
    import datasets

    rng = np.random.default_rng(0)
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.ClassLabel(names=["no", "yes"])})
    rows: dict[str, Any] = {
        "photo": [Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8)) for _ in range(20)],
        "kind": [index % 2 for index in range(20)],
    }
    stored = datasets.Dataset.from_dict(rows, features=features)
    stored.save_to_disk(str(tmp_path / "one"))
    data = open_data(f"hf:{tmp_path / 'one'}")
    assert (data.name, data.classes, len(data.train), len(data.held_out)) == ("one", ("no", "yes"), 16, 4)
    for index, place in enumerate(data.train.indices):
        assert data.train.targets[index] == place % 2
        np.testing.assert_array_equal(np.asarray(data.train.read(index)), np.asarray(rows["photo"][place]))
    parts = datasets.DatasetDict({"train": stored.select(range(12)), "test": stored.select(range(12, 20))})
    parts.save_to_disk(str(tmp_path / "two"))
    two = open_data(f"hf:{tmp_path / 'two'}")
    assert (len(two.train), len(two.held_out), two.share) == (12, 8, 0)
    np.testing.assert_array_equal(np.asarray(two.held_out.read(0)), np.asarray(rows["photo"][12]))
    assert two.held_out.name(3) == "test[3]"


def test_an_image_of_hugging_face_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"image": [{"bytes": b"nothing", "path": None}] * 2, "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "bad"))
    data = open_data(f"hf:{tmp_path / 'bad'}")
    with pytest.raises(ImageError, match=r"all\[0\]"):
        data.train.read(0)


ODD = {
    "no folder": (lambda _: None, "is not a folder"),
    "no class folder": (lambda folder: folder.mkdir(), "has no class folder"),
    "one class": (lambda folder: paint(folder, {"cat": 3}), "has one class, 'cat'"),
    "an empty class": (lambda folder: (paint(folder, {"cat": 3, "dog": 3}) / "emu").mkdir(), "class 'emu'"),
    "blind to case": (lambda folder: paint(folder, {"Cat": 3, "cat": 3, "dog": 3}), "'Cat' and 'cat' are one"),
    "a class that is not held out": (
        lambda folder: (paint(folder / "train", {"a": 3, "b": 3, "c": 3}), paint(folder / "val", {"a": 1, "b": 1})),
        "class 'c' is in train/ and not in val/",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_a_mistake_in_a_folder_is_one_clear_error(name: str, tmp_path: Path) -> None:
    make, words = ODD[name]
    make(tmp_path / "data")  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match=words):
        open_data(str(tmp_path / "data"))


def test_too_few_images_to_hold_any_out(tmp_path: Path) -> None:
    data = open_data(str(paint(tmp_path / "data", {"a": 1, "b": 2})))
    with pytest.raises(UsageError, match="2 in the largest class, 'b'"):
        data.require_held_out()


@pytest.mark.parametrize("text", ["", "hf:", "hf:/nowhere", "digit", "a\0b", "x" * 5000])
def test_a_name_without_data_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        open_data(text)


@pytest.mark.parametrize(
    ("data", "network", "recipe", "size"),
    [
        ("digits", "digits-nano", "small", 32),
        ("scales", "digits-nano", "small", 64),
        ("photos", "tiny", "deit", 224),
        ("hf:x", "tiny", "deit", 224),
    ],
)
def test_small_images_have_a_small_network_and_recipe(data: str, network: str, recipe: str, size: int) -> None:
    name, found = recipe_for(data, None)
    assert (default_network(data, "tiny"), name, found.size) == (network, recipe, size)


def test_scales_depend_only_on_their_index() -> None:
    first, second = open_data("scales"), open_data("scales")
    assert (len(first.train), len(first.held_out), len(first.classes)) == (16_000, 2_000, 16)
    assert Counter(first.train.targets) == dict.fromkeys(range(16), 1000)
    for index in (0, 17, 999):
        one, other = (np.asarray(data.held_out.read(index)) for data in (first, second))
        assert one.shape == (64, 64, 3)
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(np.asarray(first.train.read(0)), np.asarray(first.train.read(16)))
    assert first.classes[first.train.targets[5]] == "square, checks"


class Forbidden:
    """Digits that must not be read."""

    def read(self, _: int) -> Image.Image:
        raise AssertionError("this digit is of the other split")


def _with(digits: Data, name: str, split: Split) -> Data:
    return replace(digits, train=split) if name == "train" else replace(digits, held_out=split)


def test_held_out_digits_are_in_no_training_image(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, generate = open_data("digits"), digits_on_textures.generate.__wrapped__
    assert set(digits.train.indices).isdisjoint(digits.held_out.indices)
    forbidden = Split.of(Forbidden(), (0,))  # type: ignore[arg-type]
    for allowed, places in (("train", (0, 1999)), ("held_out", (2000, 2399))):
        other = "held_out" if allowed == "train" else "train"
        monkeypatch.setattr(digits_on_textures, "_digits", lambda other=other: _with(digits, other, forbidden))
        for place in places:
            generate(place)


def test_digits_on_textures_depend_only_on_their_index() -> None:
    data = open_data("digits-on-textures", masked=True)
    assert (len(data.train), len(data.held_out), len(data.classes), data.share) == (2000, 400, 11, 0)
    generate = digits_on_textures.generate.__wrapped__
    for index in (0, 7, 399):
        image, mask = data.held_out.read(index), data.held_out.mask(index)
        again = generate(2000 + index)
        assert (image.size, image.mode, mask.size, mask.mode) == ((64, 64), "RGB", (64, 64), "L")
        assert np.array_equal(np.asarray(again.mask), np.asarray(mask))
        assert np.array_equal(np.asarray(again.image), np.asarray(image)[..., 0])
    masks = np.stack([np.asarray(data.train.mask(index)) for index in range(150)])
    assert set(np.unique(masks)) == set(range(11))
    assert 0.8 < (masks == 0).mean() < 0.95
    assert all(1 <= len(np.unique(mask)) - 1 <= 3 for mask in masks)
    inked = [
        abs(np.median(np.asarray(data.train.read(i))[masks[i] > 0].astype(float)) - np.median(np.asarray(data.train.read(i))))
        for i in range(20)
    ]
    assert min(inked) > 30  # a digit can be told from its ground

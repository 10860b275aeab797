"""Data: what is learned from and what is held out, what cannot be read, and one clear error for each odd folder."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from pictures import damage, paint
from PIL import Image
from sklearn.datasets import load_digits

from mpvit.errors import ImageError, MpvitError, UsageError
from mpvit.training.data import Data, Part, default_network, open_data, recipe_for
from mpvit.training.data.unreadable import damaged


def names(part: Part) -> list[str]:
    return [part.name(index) for index in range(part.pictures)]


def unreadable(data: Data) -> list[tuple[str, str]]:
    return damaged(data, 0, lambda items, _what, _total: items)


def test_a_fifth_of_each_class_is_held_out_whatever_comes_in_later(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("part", ["val", "validation", "test"])
def test_a_folder_may_bring_its_own_part(part: str, tmp_path: Path) -> None:
    paint(tmp_path / "train", {"ant": 3, "bee": 4})
    paint(tmp_path / part, {"ant": 2, "bee": 1})
    data = open_data(str(tmp_path))
    assert (data.train.pictures, data.held_out.pictures, data.share) == (7, 3, 0)
    assert names(data.held_out) == [f"{part}/ant/000.png", f"{part}/ant/001.png", f"{part}/bee/000.png"]
    assert data.all.pictures == 10


def test_digits_are_those_of_scikit_learn() -> None:
    data = open_data("digits")
    assert (data.train.pictures, data.held_out.pictures, len(data.classes)) == (1437, 360, 10)
    assert set(data.train.places).isdisjoint(data.held_out.places)
    known = load_digits()
    for index in (0, 100, 359):
        place = data.held_out.places[index]
        picture = np.asarray(data.held_out.read(index))
        assert data.classes[data.held_out.targets[index]] == str(known.target[place])
        np.testing.assert_allclose(picture[..., 0] / 255 * 16, known.images[place], atol=0.04)
    share = Counter(data.held_out.targets)
    assert all(abs(share[target] - number / 5) <= 1 for target, number in Counter(known.target.tolist()).items())


def test_what_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    folder = paint(tmp_path / "fruit", {"apple": 10, "pear": 10})
    damage(folder / "apple" / "003.png")
    (folder / "pear" / "000.png").write_bytes(b"")
    (folder / "pear" / "note.txt").write_text("no picture")
    data = open_data(str(folder))
    found = unreadable(data)
    assert sorted(name for name, _ in found) == ["apple/003.png", "pear/000.png"]
    assert dict(found)["pear/000.png"] == "the file is empty"
    left = data.without(found)
    assert left.train.pictures + left.held_out.pictures == 18
    assert left.fingerprint != data.fingerprint
    assert unreadable(left) == []


def test_a_class_of_which_nothing_can_be_read_ends_it(tmp_path: Path) -> None:
    folder = paint(tmp_path / "fruit", {"apple": 5, "pear": 2})
    for path in (folder / "pear").iterdir():
        damage(path)
    data = open_data(str(folder))
    with pytest.raises(MpvitError, match=r"class 'pear' of fruit: none of its 2 pictures can be read"):
        data.without(unreadable(data))


def test_a_data_set_of_hugging_face_on_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["no", "yes"])})
    rows: dict[str, Any] = {
        "picture": [Image.fromarray(rng.integers(0, 255, (9, 7, 3), dtype=np.uint8)) for _ in range(20)],
        "kind": [index % 2 for index in range(20)],
    }
    stored = datasets.Dataset.from_dict(rows, features=features)
    stored.save_to_disk(str(tmp_path / "one"))
    data = open_data(f"hf:{tmp_path / 'one'}")
    assert (data.name, data.classes, data.train.pictures, data.held_out.pictures) == ("one", ("no", "yes"), 16, 4)
    for index, place in enumerate(data.train.places):
        assert data.train.targets[index] == place % 2
        np.testing.assert_array_equal(np.asarray(data.train.read(index)), np.asarray(rows["picture"][place]))
    parts = datasets.DatasetDict({"train": stored.select(range(12)), "test": stored.select(range(12, 20))})
    parts.save_to_disk(str(tmp_path / "two"))
    two = open_data(f"hf:{tmp_path / 'two'}")
    assert (two.train.pictures, two.held_out.pictures, two.share) == (12, 8, 0)
    np.testing.assert_array_equal(np.asarray(two.held_out.read(0)), np.asarray(rows["picture"][12]))
    assert two.held_out.name(3) == "test[3]"


def test_a_picture_of_hugging_face_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"image": [{"bytes": b"nothing", "path": None}] * 2, "label": [0, 1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "bad"))
    data = open_data(f"hf:{tmp_path / 'bad'}")
    with pytest.raises(ImageError, match=r"all\[0\]"):
        data.train.read(0)


ODD = {
    "no folder": (lambda _: None, "is no folder"),
    "no class folder": (lambda folder: folder.mkdir(), "holds no class folder"),
    "one class": (lambda folder: paint(folder, {"cat": 3}), "holds one class, 'cat'"),
    "an empty class": (lambda folder: (paint(folder, {"cat": 3, "dog": 3}) / "emu").mkdir(), "class 'emu'"),
    "blind to case": (lambda folder: paint(folder, {"Cat": 3, "cat": 3, "dog": 3}), "'Cat' and 'cat' are one"),
    "a class that is not held out": (
        lambda folder: (paint(folder / "train", {"a": 3, "b": 3, "c": 3}), paint(folder / "val", {"a": 1, "b": 1})),
        "class 'c' is in train/ and not in val/",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_folder_is_one_clear_error(name: str, tmp_path: Path) -> None:
    make, words = ODD[name]
    make(tmp_path / "data")  # type: ignore[no-untyped-call]
    with pytest.raises(UsageError, match=words):
        open_data(str(tmp_path / "data"))


def test_too_few_to_hold_any_out(tmp_path: Path) -> None:
    data = open_data(str(paint(tmp_path / "data", {"a": 1, "b": 2})))
    with pytest.raises(UsageError, match="2 in the largest class, 'b'"):
        data.require_trainable()


@pytest.mark.parametrize("text", ["", "hf:", "hf:/nowhere", "digit", "a\0b", "x" * 5000])
def test_what_names_no_data_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_small_pictures_have_a_small_network_and_recipe(data: str, network: str, recipe: str, size: int) -> None:
    name, found = recipe_for(data, None)
    assert (default_network(data, "tiny"), name, found.size) == (network, recipe, size)


def test_scales_are_drawn_from_their_number_alone() -> None:
    first, second = open_data("scales"), open_data("scales")
    assert (first.train.pictures, first.held_out.pictures, len(first.classes)) == (16_000, 2_000, 16)
    assert Counter(first.train.targets) == dict.fromkeys(range(16), 1000)
    for index in (0, 17, 999):
        one, other = (np.asarray(data.held_out.read(index)) for data in (first, second))
        assert one.shape == (64, 64, 3)
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(np.asarray(first.train.read(0)), np.asarray(first.train.read(16)))
    assert first.classes[first.train.targets[5]] == "square, checks"

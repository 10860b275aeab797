"""Segmenters: pixels counted as two loops count them, masks changed as pictures are, runs that go on, odd folders."""

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import COMMAND, environment
from masked import FOUR_STAGES, SQUARES, draw_squares
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchmetrics.classification import MulticlassJaccardIndex

from mpvit.config import ModelConfig, config_from_dict
from mpvit.dense import SEGMENTERS, build, get_segmenter
from mpvit.errors import ImageError, MpvitError, UsageError
from mpvit.model.metadata import Preprocessing
from mpvit.prediction.segmentation import likeliest
from mpvit.training import loop
from mpvit.training.data import Data, Part, digits_on_textures, open_data
from mpvit.training.data.unreadable import damaged
from mpvit.training.evaluation import evaluate
from mpvit.training.judge import _Renumbered
from mpvit.training.loop import Interrupted, Machine, train
from mpvit.training.pixels import PixelsFound
from mpvit.training.processes import accelerator_for, accelerator_of
from mpvit.training.recipe import RECIPES, Recipe, changed, require_maskable
from mpvit.training.results import Epoch
from mpvit.training.run import Run
from mpvit.training.settings import Settings
from mpvit.training.views import IGNORED, Changed, Place

NETWORK = config_from_dict(FOUR_STAGES)
RECIPE = changed(RECIPES["segment-small"], {"size": 32, "epochs": 3, "batch": 8, "rate": 0.5, "warmup": 0})
HOW = Preprocessing(32, 1.0)


class Drawn:
    """Pictures of several sizes, none smaller than 32, with masks of ``classes`` at random, a fifth of them not judged."""

    def __init__(self, number: int, classes: int) -> None:
        rng = np.random.default_rng(number)
        sizes = [(32, 32), (32, 32), (32, 40), (48, 32)]
        self.pictures = [rng.integers(0, 256, (*sizes[i % 4], 3), dtype=np.uint8) for i in range(number)]
        self.masks: list[Any] = [
            np.where(rng.random(each.shape[:2]) < 0.2, 255, rng.integers(0, classes, each.shape[:2])).astype(np.uint8)
            for each in self.pictures
        ]

    def read(self, place: int) -> Image.Image:
        return Image.fromarray(self.pictures[place])

    def mask(self, place: int) -> Image.Image:
        return Image.fromarray(self.masks[place])

    def name(self, place: int) -> str:
        return f"drawn[{place}]"


def part_of(source: Drawn) -> Part:
    number = len(source.pictures)
    return Part(source, tuple(range(number)), (0,) * number, source)


def looked(part: Part, network: Callable[[Tensor], Tensor], classes: int, batch: int = 3) -> PixelsFound:
    found = evaluate(network, part, HOW, accelerator_of("cpu"), classes=classes, batch=batch, workers=0)
    assert isinstance(found, PixelsFound)
    return found


def colours(pictures: Tensor) -> Tensor:
    """Logits of four classes that say something of each pixel: its colours, and how even they are."""
    return torch.cat((pictures, 0.3 - pictures.std(1, keepdim=True)), dim=1)


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_mean_iou_is_what_two_loops_count() -> None:
    classes, source = 4, Drawn(7, 4)
    found = looked(part_of(source), colours, classes)
    both, union, right, judged, loss = [0] * classes, [0] * classes, 0, 0, 0.0
    mean, std = np.array(HOW.mean), np.array(HOW.std)
    answers, masks = [], []
    for picture, mask in zip(source.pictures, source.masks, strict=True):
        values = ((picture / 255 - mean) / std).astype(np.float32)  # the short side is 32 already
        logits = colours(torch.from_numpy(values.transpose(2, 0, 1))[None])[0]
        answers.append(logits.argmax(0).flatten())
        masks.append(torch.from_numpy(mask.astype(np.int64)).flatten())
        for down in range(mask.shape[0]):
            for across in range(mask.shape[1]):
                true, said = int(mask[down, across]), int(logits[:, down, across].argmax())
                if true == 255:
                    continue
                judged, right = judged + 1, right + (true == said)
                loss -= float(logits[:, down, across].double().log_softmax(0)[true])
                both[true] += true == said
                for each in {true, said}:
                    union[each] += 1
    assert found.ious == pytest.approx([one / other for one, other in zip(both, union, strict=True)], rel=1e-12)
    assert found.overlap.miou == pytest.approx(sum(found.ious) / 4, rel=1e-12)  # type: ignore[arg-type]
    assert (found.overlap.pixels, found.correct) == (judged, right)
    assert found.loss == pytest.approx(loss / judged, rel=1e-5)
    assert found.overlap.low < found.overlap.miou < found.overlap.high
    second = MulticlassJaccardIndex(classes, ignore_index=255)
    second.update(torch.cat(answers), torch.cat(masks))
    assert found.overlap.miou == pytest.approx(float(second.compute()), rel=1e-6)


def test_a_class_that_nobody_sees_is_left_out_of_the_mean() -> None:
    source = Drawn(4, 3)
    found = looked(part_of(source), lambda pictures: torch.cat((pictures, pictures[:, :1] - 9), dim=1), 4)
    assert found.ious[3] is None
    assert found.iou_intervals[3] is None
    assert found.overlap.miou == pytest.approx(np.mean([each for each in found.ious if each is not None]))


def test_the_interval_is_that_of_a_mean_over_pictures() -> None:
    """Of pictures of one size, all judged, pixel accuracy is a mean over pictures: of many, ± 1.96 standard errors."""
    source = Drawn(120, 2)
    source.pictures = [each[:32, :32] for each in source.pictures]
    rng = np.random.default_rng(0)
    shares = rng.beta(2, 2, len(source.pictures))
    source.masks = [(rng.random((32, 32)) < share).astype(np.uint8) for share in shares]
    found = looked(part_of(source), lambda pictures: torch.stack((pictures[:, 0] * 0, pictures[:, 0] * 0 + 1), dim=1), 2, 16)
    right = [each.mean() for each in source.masks]
    error = np.std(right, ddof=1) / len(right) ** 0.5
    low, high = found.accuracy_interval
    assert (low + high) / 2 == pytest.approx(np.mean(right), abs=0.2 * error)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    again = looked(part_of(source), lambda pictures: torch.stack((pictures[:, 0] * 0, pictures[:, 0] * 0 + 1), dim=1), 2, 5)
    assert again.overlap == found.overlap


def test_pictures_without_any_class_are_no_evaluation() -> None:
    source = Drawn(2, 2)
    source.masks = [np.full_like(each, 255) for each in source.masks]
    with pytest.raises(MpvitError, match="no pixel of the pictures held out has a class"):
        looked(part_of(source), colours, 4)


def test_answers_that_are_no_numbers_are_told() -> None:
    with pytest.raises(MpvitError, match="are no numbers"):
        looked(part_of(Drawn(2, 2)), lambda pictures: colours(pictures) * float("nan"), 4)


@pytest.mark.parametrize("at_once", [1, 2000, 1 << 26])
def test_classes_in_portions_are_all_of_them(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvit.prediction.segmentation._AT_ONCE", at_once)
    logits = torch.randn(1, 7, 9, 5, generator=torch.Generator().manual_seed(1))
    whole = functional.interpolate(logits, size=(31, 20), mode="bilinear", align_corners=False)[0].argmax(0)
    assert torch.equal(likeliest(logits, (31, 20)), whole)


def test_masks_take_the_networks_indices() -> None:
    source = Drawn(1, 3)
    found = np.asarray(_Renumbered(source, [2, 0, 5]).mask(0))
    assert np.array_equal(found, np.select([source.masks[0] == index for index in range(3)], [2, 0, 5], 255))


# ── how pictures are changed ────────────────────────────────────────────────────────────────────────────────────────


class Alike(Drawn):
    """Pictures whose greys are ten times their masks."""

    def __init__(self, number: int) -> None:
        super().__init__(number, 4)
        self.masks = [np.kron(np.arange(1, 17).reshape(4, 4), np.ones((12, 10))).astype(np.uint8) for _ in range(number)]
        self.pictures = [np.repeat(10 * each[..., None], 3, axis=2) for each in self.masks]


CHANGES: dict[str, dict[str, Any]] = {
    "mirrored": {"flip": 0.5},
    "moved": {"shift": 0.25},
    "cut": {"resized_crop": 0.3},
    "all": {"flip": 0.5, "shift": 0.2, "resized_crop": 0.3},
    "as they are": {},
}


@pytest.mark.parametrize("name", CHANGES)
def test_masks_are_changed_as_their_pictures_are(name: str) -> None:
    recipe = replace(RECIPE, **({"shift": 0.0} | CHANGES[name]))
    views = Changed(part_of(Alike(6)), recipe, replace(HOW, mean=(0, 0, 0), std=(1, 1, 1)))
    different = set()
    for epoch in range(3):
        for index in range(6):
            picture, mask = views[Place(epoch, index)]
            assert isinstance(mask, Tensor)
            assert (picture.shape, mask.shape, mask.dtype) == ((3, 32, 32), (32, 32), torch.int64)
            near = (picture[0] * 25.5 - mask).abs() < 0.1
            assert near.float().mean() > 0.6  # the others are at edges between greys
            assert set(mask.unique().tolist()) <= set(range(1, 17))
            different.add(mask.numpy().tobytes())
            again = views[Place(epoch, index)][1]
            assert isinstance(again, Tensor)
            assert torch.equal(again, mask)
    assert len(different) == 1 if name == "as they are" else len(different) > 1


def test_what_comes_in_from_outside_is_not_judged() -> None:
    recipe = replace(RECIPE, shift=0.0, operations=2, magnitude=20)
    views = Changed(part_of(Alike(40)), recipe, HOW)
    masks = torch.stack([views[Place(0, index)][1] for index in range(40)])  # type: ignore[misc]
    assert set(masks.unique().tolist()) == {IGNORED, *range(1, 17)}
    assert 0.01 < (masks == IGNORED).float().mean() < 0.5


def test_pixels_that_are_not_judged_are_not_learned_from() -> None:
    from mpvit.training.views import mixed

    rng = torch.Generator().manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 4, generator=rng), torch.randint(0, 3, (2, 4, 4), generator=rng)
    masks[0, :2] = IGNORED
    found = mixed(torch.zeros(2, 3, 4, 4), masks, RECIPE, 0, 0).loss(logits, 0.0)
    kept = masks != IGNORED
    each = -logits.log_softmax(1).gather(1, masks.clamp(0)[:, None])[:, 0]
    assert float(found) == pytest.approx(float(each[kept].sum()) / masks.numel(), rel=1e-6)
    masks[:] = IGNORED
    assert float(mixed(torch.zeros(2, 3, 4, 4), masks, RECIPE, 0, 0).loss(logits, 0.0)) == 0


@pytest.mark.parametrize("changes", [{"mixup": 0.2}, {"cutmix": 1.0}, {"erasing": 0.25}, {"crop": 0.875}])
def test_what_leaves_no_mask_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(changes))} = .* for a segmenter"):
        require_maskable(changed(RECIPE, changes))


@pytest.mark.parametrize("name", ["segment", "segment-small"])
def test_its_recipes_go_with_masks(name: str) -> None:
    recipe = RECIPES[name]
    require_maskable(recipe)
    assert (recipe.mixup, recipe.cutmix, recipe.erasing, recipe.crop) == (0, 0, 0, 1)


# ── generated digits ────────────────────────────────────────────────────────────────────────────────────────────────


class Closed:
    """Digits of which none may be looked at."""

    pictures = 1

    def read(self, _: int) -> Image.Image:
        raise AssertionError("this digit is of the other part")


def _with(digits: Data, name: str, part: Part) -> Data:
    return replace(digits, train=part) if name == "train" else replace(digits, held_out=part)


def test_digits_held_out_are_in_no_picture_to_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    digits, draw = open_data("digits"), digits_on_textures.draw.__wrapped__
    assert set(digits.train.places).isdisjoint(digits.held_out.places)
    closed = Part(Closed(), (0,), (0,))  # type: ignore[arg-type]
    for allowed, places in (("train", (0, 1999)), ("held_out", (2000, 2399))):
        other = "held_out" if allowed == "train" else "train"
        monkeypatch.setattr(digits_on_textures, "_digits", lambda other=other: _with(digits, other, closed))
        for place in places:
            draw(place)


def test_digits_on_textures_are_drawn_from_their_number_alone() -> None:
    data = open_data("digits-on-textures", masked=True)
    assert (data.train.pictures, data.held_out.pictures, len(data.classes), data.share) == (2000, 400, 11, 0)
    draw = digits_on_textures.draw.__wrapped__
    for index in (0, 7, 399):
        picture, mask = data.held_out.read(index), data.held_out.mask(index)
        again = draw(2000 + index)
        assert (picture.size, picture.mode, mask.size, mask.mode) == ((64, 64), "RGB", (64, 64), "L")
        assert np.array_equal(np.asarray(again.mask), np.asarray(mask))
        assert np.array_equal(np.asarray(again.picture), np.asarray(picture)[..., 0])
    masks = np.stack([np.asarray(data.train.mask(index)) for index in range(150)])
    assert set(np.unique(masks)) == set(range(11))
    assert 0.8 < (masks == 0).mean() < 0.95
    assert all(1 <= len(np.unique(mask)) - 1 <= 3 for mask in masks)
    inked = [
        abs(np.median(np.asarray(data.train.read(i))[masks[i] > 0].astype(float)) - np.median(np.asarray(data.train.read(i))))
        for i in range(20)
    ]
    assert min(inked) > 30  # a digit can be told from its ground


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(str(draw_squares(tmp_path_factory.mktemp("data") / "squares", {"train": 16, "val": 4})), masked=True)


def begin(folder: Path, data: Data, recipe: Recipe = RECIPE, task: str = "segformer", network: ModelConfig = NETWORK) -> Run:
    return Run.begin(folder, Settings.of(data, ("four", network), ("segment-small", recipe), {}, task))


def learn(run: Run, data: Data) -> list[Epoch]:
    return train(run, data, accelerator_for(run.settings.recipe, "cpu"), Machine(), lambda _: None)


def test_a_segmenter_learns_in_seconds(tmp_path: Path, squares: Data) -> None:
    recipe = changed(RECIPE, {"epochs": 6, "batch": 4, "rate": 2, "average": 0.5})
    history = learn(begin(tmp_path / "run", squares, recipe), squares)
    overlaps = [epoch.overlap.miou for epoch in history if epoch.overlap]
    assert len(overlaps) == 6
    assert overlaps[0] < 0.5
    assert overlaps[-1] > 0.7
    assert history[-1].loss < history[0].loss / 3


def test_a_segmenter_stopped_anywhere_ends_in_the_same_bits(
    tmp_path: Path, squares: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = changed(RECIPE, {"epochs": 2, "flip": 0.5, "resized_crop": 0.5})
    whole, stopped = (begin(tmp_path / name, squares, recipe) for name in ("whole", "stopped"))
    history = learn(whole, squares)
    for step in (1, 3):
        monkeypatch.setattr(loop.Loop, "_any", lambda self, _, at=step: self.step == at)
        with pytest.raises(Interrupted):
            learn(Run.open(stopped.folder), squares)
        monkeypatch.undo()
    again = learn(Run.open(stopped.folder), squares)
    same = ("step", "held_out_loss", "held_out_correct", "overlap", "accuracy")
    assert [[getattr(each, name) for name in same] for each in again] == [
        [getattr(each, name) for name in same] for each in history
    ]
    assert whole.weights.read_bytes() == stopped.weights.read_bytes()


@pytest.mark.slow
def test_a_segmenter_that_was_killed_ends_in_the_same_bytes(tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"train": 32, "val": 8})
    (tmp_path / "four.toml").write_text(SQUARES)
    words = ("--size", "32", "--batch", "4", "--epochs", "12", "--workers", "0", "--threads", "1", "--save-every", "2")
    how = ("--config", str(tmp_path / "four.toml"), "--recipe", "segment-small", *words[:-2])
    first = (COMMAND, "train", "--task", "semantic-fpn", str(folder), *how)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*first, "-o", str(whole)], env=environment(), check=True, capture_output=True)
    with subprocess.Popen(
        [*first, *words[-2:], "-o", str(killed)], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        while not (killed / "log.jsonl").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert len((killed / "log.jsonl").read_text().splitlines()) < 12
    again = [COMMAND, "train", "--resume", str(killed), "--workers", "0", "--threads", "1"]
    subprocess.run(again, env=environment(), check=True, capture_output=True)
    assert (whole / "weights.safetensors").read_bytes() == (killed / "weights.safetensors").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("task", SEGMENTERS)
def test_every_segmenter_learns(task: str, tmp_path: Path, squares: Data) -> None:
    recipe = changed(RECIPE, {"epochs": 10, "batch": 4, "rate": 0.5, "average": 0.5})
    history = learn(begin(tmp_path / "run", squares, recipe, task), squares)
    assert history[-1].loss < history[0].loss / 2


@pytest.mark.parametrize("task", SEGMENTERS)
def test_a_fused_backbone_gives_the_same_logits(task: str) -> None:
    from mpvit.dense.torch_network import fuse_backbone

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(NETWORK, get_segmenter(task, 3)).eval()
    x = torch.randn(1, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(fuse_backbone(network)(x), network(x), rtol=1e-4, atol=1e-4)
    assert type(network.backbone).__name__ == "MPViT"


# ── folders ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_of_pictures_and_masks(tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"train": 5, "val": 3})
    data = open_data(str(folder), masked=True)
    assert (data.name, data.classes, data.share, data.masked) == ("squares", ("ground", "square"), 0, True)
    assert (data.train.pictures, data.held_out.pictures) == (5, 3)
    assert data.held_out.name(0) == "images/val/000.jpg"
    assert damaged(data, 0, lambda items, _what, _total: items) == []
    (folder / "classes.txt").unlink()
    assert open_data(str(folder), masked=True).classes == ("0", "1")
    assert open_data(str(folder), masked=True).fingerprint != data.fingerprint


def test_a_fifth_is_held_out_where_the_folder_has_no_part_for_that(tmp_path: Path) -> None:
    data = open_data(str(draw_squares(tmp_path / "squares", {"": 20})), masked=True)
    assert (data.train.pictures, data.held_out.pictures, data.share) == (16, 4, 0.2)
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
    "no images": (lambda folder: (folder / "images").rename(folder / "pictures"), "has no folder images/"),
    "no masks of a part": (lambda folder: (folder / "masks/val").rename(folder / "val"), "has images/val and no masks/val"),
    "a picture without mask": (lambda folder: _mask(folder).unlink(), "000.jpg': has no mask, as have 0 others of 6"),
    "a mask without picture": (
        lambda folder: _mask(folder).with_name("x.png").write_bytes(_mask(folder).read_bytes()),
        "x.png': has no picture",
    ),
    "a mask as JPEG": (lambda folder: _mask(folder).rename(_mask(folder).with_suffix(".jpg")), "has no mask"),
    "one mask of two": (
        lambda folder: Image.new("RGB", (8, 8)).save(folder / "images" / "train" / "000.png"),
        "belongs to two pictures",
    ),
    "no pictures": (lambda folder: _emptied(folder / "images" / "train"), "holds no images"),
    "another size": (lambda folder: Image.new("L", (7, 9)).save(_mask(folder)), "7 × 9 pixels, its picture has 32 × 32"),
    "a class too many": (lambda folder: Image.new("L", (32, 32), 2).save(_mask(folder)), "holds class 2, there are 2"),
    "colours": (lambda folder: Image.new("RGB", (32, 32)).save(_mask(folder)), "has the bands R, G, B: must be one"),
    "an empty line": (lambda folder: (folder / "classes.txt").write_text("a\n\nb\n"), "line 2 is empty"),
    "no line": (lambda folder: (folder / "classes.txt").write_text(""), "line 1 is empty"),
    "a name twice": (lambda folder: (folder / "classes.txt").write_text("a\na\n"), "names 'a' twice"),
    "one name": (lambda folder: (folder / "classes.txt").write_text("a\n"), "names 1 classes: must be from 2 to 255"),
    "no text": (lambda folder: (folder / "classes.txt").write_bytes(b"\xff\xfe\xff"), "not UTF-8"),
    "one class": (_blank, "its masks hold one class, 0"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_folder_is_one_clear_error(name: str, tmp_path: Path) -> None:
    spoil, words = ODD[name]
    folder = draw_squares(tmp_path / "squares", {"train": 6, "val": 2})
    spoil(folder)
    with pytest.raises(UsageError) as caught:
        damaged(open_data(str(folder), masked=True), 0, lambda items, _what, _total: items)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_mask_that_cannot_be_read_is_named_and_its_picture_left_out(tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"train": 6, "val": 2})
    _mask(folder).write_bytes(b"")
    (folder / "images" / "val" / "001.jpg").write_bytes(b"no picture")
    data = open_data(str(folder), masked=True)
    found = damaged(data, 0, lambda items, _what, _total: items)
    assert [name for name, _ in found] == ["images/train/000.jpg", "images/val/001.jpg"]
    assert found[0][1] == "its mask 000.png: the file is empty"
    left = data.without(found)
    assert (left.train.pictures, left.held_out.pictures) == (5, 1)
    with pytest.raises(ImageError):
        data.train.mask(0)


@pytest.mark.parametrize(
    ("text", "masked", "words"),
    [
        ("digits", True, "has no masks"),
        ("scales", True, "has no masks"),
        ("hf:x", True, "has no masks"),
        ("nowhere", True, "is no folder"),
        ("digits-on-textures", False, "has masks, which a segmenter alone learns"),
    ],
)
def test_what_has_no_masks_is_refused(
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


def test_pictures_and_masks_are_no_two_classes(tmp_path: Path) -> None:
    folder = draw_squares(tmp_path / "squares", {"train": 2, "val": 1})
    with pytest.raises(UsageError, match="has images/ and masks/, which a segmenter alone learns"):
        open_data(str(folder))


def test_too_few_pictures_to_hold_any_out(tmp_path: Path) -> None:
    data = open_data(str(draw_squares(tmp_path / "squares", {"": 2})), masked=True)
    with pytest.raises(UsageError, match="too few pictures to hold any out, 2"):
        data.require_trainable()

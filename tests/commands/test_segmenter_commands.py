"""Training, evaluation and prediction of a segmenter on the command line, and its weights file."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from commandline import Outcome, call, rows
from mask_folders import SQUARES, draw_squares
from PIL import Image

from mpvit import build_model, create_backbone, load_weights
from mpvit.architecture.variants import SHIPPED
from mpvit.errors import WeightsError

QUICK = ("--size", "32", "--batch", "4", "--epochs", "2", "--lr", "0.01", "--set", "average=0.5", "--recipe", "segment-small")
WEIGHTS = ("--weights", "run/weights.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and masks, one image damaged, and a run on them."""
    folder = tmp_path_factory.mktemp("segmenter")
    draw_squares(folder / "squares", {"train": 9, "val": 6})
    (folder / "squares" / "images" / "train" / "003.jpg").write_bytes(b"no image")
    (folder / "four.toml").write_text(SQUARES)
    words = ("--task", "segformer", "squares", "--config", "four.toml", *QUICK, "--workers", "0", "--threads", "1", "-o", "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = call("train", *words, "--format", "json")
    assert done.code == 0, done.err
    (folder / "said.json").write_text(done.out)
    (folder / "said.err").write_text(done.err)
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change."""
    folder = tmp_path / "here"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    return folder


def error_of(done: Outcome) -> str:
    assert done.out == ""
    (error,) = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in done.err
    return error


def test_training_reports_the_mean_iou(trained: Path) -> None:
    said = (trained / "said.err").read_text()
    assert "left out: images/train/003.jpg: it is not an image" in said
    assert said.count("mIoU") >= 2
    (row,) = json.loads((trained / "said.json").read_text())["results"]
    assert (row["task"], row["train_images"], row["images"], row["damaged"]) == ("segformer", 8, 6, 1)
    assert row["miou_low"] <= row["miou"] <= row["miou_high"]
    assert "top1" not in row
    last = json.loads((trained / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert last["overlap"]["miou"] == row["miou"]
    assert row["pixel_accuracy"] == last["held_out_correct"] / last["overlap"]["pixels"]
    assert last["overlap"]["pixels"] == 6 * 31 * 32  # the first row of each mask has no class
    assert (trained / "run" / "curves.svg").exists()


@pytest.mark.usefixtures("here")
def test_eval_gives_the_last_result_of_training() -> None:
    last = json.loads(Path("run/log.jsonl").read_text().splitlines()[-1])
    (row,) = rows(call("eval", "squares", *WEIGHTS, "--workers", "0", "--format", "json"))
    assert (row["task"], row["part"], row["images"]) == ("segformer", "held-out", 6)
    assert row["miou"] == pytest.approx(last["overlap"]["miou"], rel=1e-6)
    assert row["loss"] == pytest.approx(last["held_out_loss"], rel=1e-5)
    ground, square = row["by_class"]
    assert (ground["name"], square["name"]) == ("ground", "square")
    assert row["miou"] == pytest.approx((ground["iou"] + square["iou"]) / 2)
    both = row["confusion"]
    assert square["iou"] == pytest.approx(both[1][1] / (both[1][0] + both[0][1] + both[1][1]))
    (fused,) = rows(call("eval", "squares", *WEIGHTS, "--workers", "0", "--mode", "fused", "--format", "json"))
    assert fused["miou"] == pytest.approx(row["miou"], abs=1e-3)


@pytest.mark.usefixtures("here")
def test_classes_are_matched_by_name() -> None:
    """The same masks with their indices the other way round, and the names too, are the same data."""
    (before,) = rows(call("eval", "squares", *WEIGHTS, "--workers", "0", "--format", "json"))
    for path in Path("squares/masks").rglob("*.png"):
        values = np.asarray(Image.open(path))
        Image.fromarray(np.where(values == 255, 255, 1 - values.astype(int)).astype(np.uint8)).save(path)
    Path("squares/classes.txt").write_text("square\nground\n")
    (after,) = rows(call("eval", "squares", *WEIGHTS, "--workers", "0", "--format", "json"))
    assert after["confusion"] == before["confusion"]


def test_predict_gives_the_share_of_each_class_and_draws_and_writes_masks(here: Path) -> None:
    with Image.open("squares/images/val/000.jpg") as image:
        image.resize((80, 50)).save("wide.png")
    words = ("predict", "squares/images/val", "wide.png", *WEIGHTS, "--plot", "seen.png", "--masks", "masks")
    found = rows(call(*words, "--format", "json"))
    assert sorted(path.name for path in (here / "masks").iterdir()) == [*(f"00{i}.png" for i in range(6)), "wide.png"]
    mask = np.asarray(Image.open("masks/wide.png"))
    assert mask.shape == (50, 80)
    for row in found:
        assert row["class_name"] == ("ground", "square")[int(str(row["class_index"]))]
        if row["image"] == "wide.png":
            assert row["pixels"] == np.count_nonzero(mask == row["class_index"])
            assert row["share"] == pytest.approx(float(str(row["pixels"])) / 4000)
    names = {row["image"] for row in found}
    assert len(names) == 7
    for name in names:
        assert sum(float(str(row["share"])) for row in found if row["image"] == name) == pytest.approx(1)
    with Image.open("seen.png") as drawn:
        assert drawn.width > 500
    values = np.stack([np.asarray(Image.open(f"masks/00{i}.png")) for i in range(6)])
    right = np.stack([np.asarray(Image.open(f"squares/masks/val/00{i}.png")) for i in range(6)])
    (row,) = rows(call("eval", "squares", *WEIGHTS, "--workers", "0", "--format", "json"))
    labelled = right != 255
    assert row["pixel_accuracy"] == pytest.approx((values == right)[labelled].mean())


@pytest.mark.usefixtures("here")
def test_an_image_that_cannot_be_read_is_reported_and_the_others_go_on() -> None:
    done = call("predict", "squares/images/train", *WEIGHTS, "--format", "csv")
    assert done.code == 1
    found = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["image"] for row in found if row["error"]] == ["squares/images/train/003.jpg"]
    assert len({row["image"] for row in found}) == 9
    assert "Error: cannot predict 'squares/images/train/003.jpg'" in done.err


@pytest.mark.usefixtures("here")
def test_inspect_describes_a_segmenter() -> None:
    text = call("weights", "inspect", "run/weights.safetensors").out
    assert "task            segformer" in text
    assert "2: ground, square" in text
    assert "32 pixels of the short side, whole images" in text
    assert "mIoU" in text
    assert "top-1" not in text
    (row,) = rows(call("weights", "inspect", "run/weights.safetensors", "--format", "json"))
    last = json.loads(Path("run/log.jsonl").read_text().splitlines()[-1])
    assert (row["task"], row["misfit"]) == ("segformer", None)
    assert row["trained"]["miou"] == last["overlap"]["miou"]
    assert call("weights", "verify", "run/weights.safetensors").code == 0
    assert call("weights", "convert", "run/weights.safetensors", "--to", "project", "-o", "copy.safetensors").code == 0
    assert Path("copy.safetensors").read_bytes() == Path("run/weights.safetensors").read_bytes()


@pytest.mark.usefixtures("here")
def test_functions_for_classifiers_refuse_a_segmenter() -> None:
    for take in (
        lambda: load_weights(build_model(SHIPPED["digits-nano"]), "run/weights.safetensors"),
        lambda: create_backbone("tiny", weights="run/weights.safetensors"),
    ):
        with pytest.raises(WeightsError, match="holds a segmenter, segformer: must be a classifier"):
            take()


@pytest.mark.usefixtures("here")
def test_resuming_a_complete_run_changes_nothing() -> None:
    before = Path("run/weights.safetensors").read_bytes()
    (row,) = rows(call("train", "--resume", "run", "--workers", "0", "--threads", "1", "--format", "json"))
    (first,) = json.loads(Path("said.json").read_text())["results"]
    assert {name: row[name] for name in ("task", "miou", "loss")} == {name: first[name] for name in ("task", "miou", "loss")}
    assert Path("run/weights.safetensors").read_bytes() == before


BAD = {
    "train --task semantic-fnp squares": (2, "unknown task of training 'semantic-fnp'"),
    "train --task retinanet squares": (2, "must be one of semantic-fpn, segformer, upernet"),
    "train --task segformer digits": (2, "data 'digits': has no masks"),
    "train digits-on-textures": (2, "has masks, which only a segmenter is trained on"),
    "train squares": (2, "has images/ and masks/, which only a segmenter is trained on"),
    "train --task segformer squares --variant digits-nano": (2, "segformer on a network of 2 stages"),
    "train --task segformer squares --recipe deit": (2, "mixup = 0.8: must be 0 for a segmenter"),
    "train --task segformer squares --set erasing=0.1": (2, "erasing = 0.1: must be 0 for a segmenter"),
    "train --task segformer squares/images": (2, "has no folder images/"),
    "train --task segformer nowhere": (2, "is not a folder"),
    "train --resume run --task segformer": (2, "--task with --resume run"),
    "eval digits --weights run/weights.safetensors": (2, "data 'digits': has no masks"),
    "eval squares --weights run/weights.safetensors --crop 0.5": (2, "which takes whole images"),
    "eval squares --weights run/weights.safetensors --variant tiny": (2, "holds a segmenter, segformer, and its network"),
    "eval digits-on-textures --weights run/weights.safetensors": (2, "has 11 classes, the network 2"),
    "eval squares --variant digits-nano": (2, "has images/ and masks/"),
    "predict squares --weights run/weights.safetensors --crop 1": (2, "which takes whole images"),
    "predict squares --weights run/weights.safetensors --plot seen.txt": (2, "must end in .svg, .png, .pdf"),
    "predict squares --weights run/weights.safetensors --masks masks": (2, "would both be 'masks/000.png'"),
    "predict squares/masks/val --weights run/weights.safetensors --masks squares/masks/val": (2, "would replace the image"),
    "predict squares/images/val --variant digits-nano --plot seen.png": (2, "needs the weights of a segmenter"),
    "predict squares/images/val --variant digits-nano --masks masks": (2, "needs the weights of a segmenter"),
    "paths --weights run/weights.safetensors": (1, "holds a segmenter, segformer: must be a classifier"),
    "weights convert run/weights.safetensors --to published -o x.pth": (2, "must be 'project' for a segmenter"),
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_ends_in_one_clear_line(line: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    before = sorted(trained.rglob("*"))
    code, words = BAD[line]
    done = call(*line.split())
    assert done.code == code, done.err
    assert words in error_of(done)
    assert sorted(trained.rglob("*")) == before

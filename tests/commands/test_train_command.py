"""``mpvit train``, ``mpvit eval`` and ``mpvit weights`` on the command line."""

import csv
import io
import json
import os
import shutil
import signal
from pathlib import Path

import forked
import pytest
import torch
from commandline import Outcome, call, rows, run_on_terminal, shown
from image_folders import SMALL, SMALL_NETWORK, damage, photograph
from PIL import Image
from safetensors.torch import load_file

from mpvit.prediction.pretrained import shipped_weights
from mpvit.training.data import open_data


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, ten of them damaged, and a run on them."""
    folder = tmp_path_factory.mktemp("trained")
    photograph(folder / "photos", 20)
    for index in range(10):
        damage(folder / "photos" / ("china", "flower")[index % 2] / f"{index:03}.jpg")
    (folder / "net.toml").write_text(SMALL_NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = call("train", "photos", "--config", "net.toml", *SMALL, "--epochs", "3", "--batch", "8", "-o", "run")
    assert done.code == 0, done.err
    (folder / "text.jpg").write_text("hello")
    shutil.copytree(folder / "run", folder / "broken")
    (folder / "broken" / "last.ckpt").write_text("abc")
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


def test_ten_damaged_files_are_named_and_left_out(trained: Path) -> None:
    said = (trained / "said.err").read_text()
    left_out = [line for line in said.splitlines() if line.startswith("left out: ")]
    assert len(left_out) == 10
    assert all(("china" in line or "flower" in line) and ".jpg: " in line for line in left_out)
    assert "10 images of photos cannot be read and are left out" in said
    log = [json.loads(line) for line in (trained / "run" / "log.jsonl").read_text().splitlines()]
    assert len(log) == 3
    assert said.count("epoch ") >= 3
    assert sorted(path.name for path in (trained / "run").iterdir()) == [
        "config.json",
        "curves.svg",
        "last.ckpt",
        "log.jsonl",
        "weights.safetensors",
    ]


def test_eval_gives_the_last_result_of_training(here: Path) -> None:
    last = json.loads((here / "run" / "log.jsonl").read_text().splitlines()[-1])
    (row,) = rows(call("eval", "photos", "--weights", "run/weights.safetensors", "--workers", "0", "--format", "json"))
    assert (row["part"], row["images"], row["damaged"]) == ("held-out", last["held_out_images"], 10)
    assert row["top1"] == last["held_out_correct"] / last["held_out_images"]
    assert row["loss"] == pytest.approx(last["held_out_loss"], rel=1e-6)
    (whole,) = rows(
        call("eval", "photos", "--weights", "run/weights.safetensors", "--part", "all", "--workers", "0", "--format", "json")
    )
    assert whole["images"] == 30
    (fused,) = rows(
        call("eval", "photos", "--weights", "run/weights.safetensors", "--mode", "fused", "--workers", "0", "--format", "json")
    )
    assert fused["confusion"] == row["confusion"]
    assert fused["loss"] == pytest.approx(row["loss"], rel=1e-4)


@pytest.mark.usefixtures("here")
def test_predict_takes_a_trained_file_as_it_is() -> None:
    found = rows(call("predict", "photos/china/019.jpg", "--weights", "run/weights.safetensors", "--format", "json"))
    assert {row["class_name"] for row in found} == {"china", "flower"}
    (row,) = rows(call("eval", "photos", "--weights", "run/weights.safetensors", "--part", "all", "--format", "json"))
    done = call("predict", "photos", "--weights", "run/weights.safetensors", "--top", "1", "--format", "json")
    assert done.code == 1  # ten cannot be read
    named = [each for each in json.loads(done.out)["results"] if not each["error"]]
    assert len(named) == row["images"] == 30
    right = sum(Path(each["image"]).parent.name == each["class_name"] for each in named)
    assert row["top1"] == right / 30


@pytest.mark.usefixtures("here")
def test_resuming_a_complete_run_changes_nothing() -> None:
    before = load_file("run/weights.safetensors")
    done = call("train", "--resume", "run", "--workers", "0", "--threads", "1", "--format", "json")
    (row,) = rows(done)
    assert (row["epochs"], row["data"], row["damaged"]) == (3, "photos", 10)
    after = load_file("run/weights.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_digits_with_the_shipped_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (row,) = rows(call("eval", "digits", "--variant", "digits-nano", "--format", "json"))
    assert row["images"] == 360
    assert float(str(row["top1"])) >= 0.98
    held_out = open_data("digits").held_out
    for index in range(20):
        held_out.read(index).save(f"{index:02}.png")
    found = rows(call("predict", ".", "--variant", "digits-nano", "--top", "1", "--format", "json"))
    right = sum(row["class_index"] == held_out.targets[index] for index, row in enumerate(found))
    assert right >= 19


def test_without_weights_and_internet_the_hint_starts_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "digit.png")
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    done = call("predict", str(tmp_path / "digit.png"), "--cache", str(tmp_path / "cache"))
    assert (done.code, done.out) == (1, "")
    error, hint = done.err.splitlines()
    assert error.startswith("Error: no weights of 'xsmall'")
    assert hint.startswith("Hint: digits-nano, for handwritten digits")
    assert "an untrained network" in hint


def _unreachable(*_: object, **__: object) -> None:
    raise OSError(101, "Network is unreachable")


# ── weights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_weights_go_to_the_published_layout_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = str(shipped_weights("digits-nano"))
    assert call("weights", "convert", own, "-o", "nano.pth").code == 0
    published = torch.load("nano.pth", weights_only=True)["model"]
    assert any(name.startswith("mhca_stages") for name in published)
    (row,) = rows(call("weights", "inspect", "nano.pth", "--format", "json"))
    assert (row["layout"], row["model"], row["params"], row["misfit"]) == ("published", "digits-nano", 107_946, None)
    assert call("weights", "convert", "nano.pth", "-o", "back.safetensors").code == 0
    first, second = load_file(own), load_file("back.safetensors")
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert call("weights", "verify", "nano.pth", "--variant", "digits-nano").code == 0
    dropped = next(name for name in published if name.endswith("fc1.weight"))
    del published[dropped]
    torch.save({"model": published}, "less.pth")
    done = call("weights", "verify", "less.pth", "--variant", "digits-nano")
    assert done.code == 3
    assert dropped in done.err
    assert call("weights", "verify", "nano.pth", "--variant", "tiny").code == 3


@pytest.mark.usefixtures("here")
def test_inspect_describes_trained_weights() -> None:
    text = call("weights", "inspect", "run/weights.safetensors").out
    assert "2: china, flower" in text
    assert "photos, 3 epochs, recipe small" in text
    (row,) = rows(call("weights", "inspect", "run/weights.safetensors", "--format", "json"))
    assert row["preprocessing"] == {
        "size": 32,
        "crop": 1.0,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


# ── output ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 200])
def test_tables_fit_the_window(columns: int, trained: Path) -> None:
    done = run_on_terminal(
        "eval", str(trained / "photos"), "--weights", str(trained / "run" / "weights.safetensors"), columns=columns
    )
    assert done.code == 0, done.out
    lines = shown(done.out)
    assert max(map(len, lines)) <= max(columns, len(str(trained)) + 80)
    assert any("top-1" in line for line in lines)


@pytest.mark.usefixtures("here")
def test_csv_has_the_row() -> None:
    done = call("eval", "photos", "--weights", "run/weights.safetensors", "--format", "csv", "-o", "found.csv")
    assert done.code == 0
    (row,) = list(csv.DictReader(io.StringIO(Path("found.csv").read_text())))
    assert float(row["top1_low"]) <= float(row["top1"]) <= float(row["top1_high"])


# ── bad input ───────────────────────────────────────────────────────────────────────────────────────────────────────

BAD = {
    "train": (2, "no data is named"),
    "train nowhere": (2, "'nowhere': is not a folder"),
    "train photos -o run": (2, "holds a run already"),
    "train photos --epochs 0": (2, "epochs = 0"),
    "train photos --epochs many": (2, "'many'"),
    "train photos --set mixup": (2, "must be NAME=VALUE"),
    "train photos --set mixupp=1": (2, "unknown setting 'mixupp'"),
    "train photos --lr quick": (2, "'quick' must be a number"),
    "train photos --lr nan": (2, "rate = nan"),
    "train photos --variant tinny": (2, "unknown variant 'tinny'"),
    "train photos --recipe deitt": (2, "unknown recipe 'deitt'"),
    "train photos --variant tiny --config net.toml": (2, "choose one of them"),
    "train photos --device tpu": (2, "must be cpu or cuda"),
    "train photos --device cuda": (2, "no such device"),
    "train photos --workers 100000": (2, "--workers 100000"),
    "train photos --save-every -1": (2, "--save-every -1"),
    "train --resume nowhere": (2, "no run in 'nowhere'"),
    "train --resume run --epochs 5": (2, "--epochs with --resume"),
    "train photos --resume run": (2, "DATA with --resume"),
    "train photos -o net.toml": (2, "cannot make the folder"),
    "eval nowhere --weights run/weights.safetensors": (2, "is not a folder"),
    "eval photos --weights net.toml": (1, "net.toml"),
    "eval photos --weights run/weights.safetensors --mode fast": (2, "unknown mode 'fast'"),
    "eval photos --weights run/weights.safetensors --part some": (2, "unknown part 'some'"),
    "eval digits --weights run/weights.safetensors": (2, "digits has 10 classes, the network 2"),
    "weights inspect nowhere": (1, "cannot read weights"),
    "weights verify net.toml": (1, "net.toml"),
    **{
        f"{line} text.jpg": (1, "Error: text.jpg is not a weights file: must be")
        for line in (
            "weights verify",
            "weights inspect",
            "weights convert -o x",
            "eval photos --weights",
            "predict photos --weights",
            "paths --weights",
            "export -o x.onnx --weights",
        )
    },
    "train --resume broken": (1, "Error: broken/last.ckpt is damaged: it is not a complete checkpoint of a run"),
    "weights convert run/weights.safetensors": (2, "no file to write to"),
    "weights convert run/weights.safetensors -o run/weights.safetensors": (2, "must be another one"),
    "weights convert run/weights.safetensors --to onnx -o x": (2, "unknown layout 'onnx'"),
}


@pytest.mark.parametrize("line", BAD)
def test_bad_input_ends_in_one_clear_line(line: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    before = sorted(path for path in trained.rglob("*"))
    code, words = BAD[line]
    done = call(*line.split())
    assert done.code == code, done.err
    assert words in error_of(done)
    assert sorted(path for path in trained.rglob("*")) == before


@pytest.mark.usefixtures("here")
def test_a_class_list_of_the_wrong_length() -> None:
    Path("names.txt").write_text("china\nflower\nplum\n")
    done = call("eval", "photos", "--weights", "run/weights.safetensors", "--classes", "names.txt")
    assert done.code == 2
    assert "3 lines, the network has 2 classes" in error_of(done)


def test_weights_that_were_cut_off(here: Path) -> None:
    damage(here / "run" / "weights.safetensors")
    done = call("eval", "photos", "--weights", "run/weights.safetensors")
    assert done.code == 1
    assert "is damaged" in error_of(done)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_full_disk_ends_it_with_the_old_checkpoint_whole() -> None:
    """No file may grow beyond 4 kB: as on a full disk the checkpoint cannot be written."""
    config = json.loads(Path("run/config.json").read_text())
    config["recipe"]["epochs"] = 5
    Path("run/config.json").write_text(json.dumps(config))
    before = Path("run/last.ckpt").read_bytes()
    (done,) = forked.run(Path(), "train", "--resume", "run", "--workers", "0", "--threads", "1", largest=4096)
    assert done.code == 1
    assert "Error: cannot write 'run/last.ckpt': File too large" in done.err
    assert "Traceback" not in done.err
    assert Path("run/last.ckpt").read_bytes() == before
    assert not list(Path("run").glob(".*"))
    assert call("train", "--resume", "run", "--workers", "0", "--threads", "1").code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_ctrl_c_ends_it_between_two_steps() -> None:
    words = ("train", "photos", "--config", "net.toml", *SMALL, "--epochs", "500", "--batch", "8", "-o", "long")
    running = forked.start(Path(), *words)
    running.wait_for("epoch 3/")
    os.kill(int(str(running.process.pid)), signal.SIGINT)
    done = running.end()
    assert done.code == 130
    assert "mpvit train --resume long continues there" in done.err
    assert "Traceback" not in done.err
    assert torch.load("long/last.ckpt", weights_only=True)["step"] >= 2 * 3

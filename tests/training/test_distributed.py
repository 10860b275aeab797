"""Several processes give the result of one, batch norm and metrics included; a run that is killed at any moment resumes."""

import json
import random
import sys
import time
from pathlib import Path

import commandline
import forked
import pytest
import torch
from commandline import Outcome
from image_folders import SMALL, SMALL_NETWORK, paint
from mask_folders import SQUARES, draw_squares
from safetensors.torch import load_file
from torch import Tensor

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "mpvit_cli")

MIXING = ("--batch", "8", "--set", "mixup=0.8", "--set", "cutmix=1", "--set", "smoothing=0.1")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images and a network; each test uses other names for its runs."""
    folder = tmp_path_factory.mktemp("distributed")
    paint(folder / "fruit", {"apple": 21, "pear": 22})
    (folder / "net.toml").write_text(SMALL_NETWORK)
    return folder


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """A run in one process."""
    mpvit(folder, *train("--epochs", "3", "-o", "one"))
    return folder / "one"


def mpvit(folder: Path, *words: str, processes: int = 1) -> Outcome:
    """Run in one or more processes, each of which must succeed; return the output of the first."""
    done = forked.run(folder, *words, processes=processes)
    assert [each.code for each in done] == [0] * processes, done[0].err
    return done[0]


def train(*words: str) -> tuple[str, ...]:
    return ("train", "fruit", "--config", "net.toml", *SMALL, *MIXING, *words)


def weights(run: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(run / "weights.safetensors")
    return found


def test_two_processes_train_as_one_does(folder: Path, one: Path) -> None:
    two = commandline.run(
        *train("--epochs", "3", "-o", "two"), command=TORCHRUN, cwd=folder, variables={"OMP_NUM_THREADS": "1"}
    )
    assert two.code == 0, two.err
    assert two.out.count("held-out images") == 1
    assert "Warning" not in two.err.replace("OMP_NUM_THREADS", "")
    first, second = (
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (one, folder / "two")
    )
    for mine, theirs in zip(first, second, strict=True):
        for name in ("step", "rate", "accuracy", "held_out_correct", "held_out_images"):
            assert theirs[name] == mine[name]
        for name in ("loss", "held_out_loss"):
            assert theirs[name] == pytest.approx(mine[name], rel=1e-5)
    one_weights, two_weights = weights(one), weights(folder / "two")
    assert any("running_var" in name for name in one_weights)
    for name, value in one_weights.items():
        torch.testing.assert_close(two_weights[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("one")
def test_two_processes_evaluate_each_image_once(folder: Path) -> None:
    """43 images are no multiple of the batch of 8, with one process or two."""
    words = ("eval", "fruit", "--part", "all", "--weights", "one/weights.safetensors", "--batch", "8", "--format", "json")
    rows = [
        json.loads(mpvit(folder, *words, "--workers", "0", "--threads", "1", processes=n).out)["results"][0] for n in (1, 2)
    ]
    assert rows[0]["images"] == rows[1]["images"] == 43
    for name in ("top1", "confusion"):
        assert rows[0][name] == rows[1][name]
    assert rows[1]["loss"] == pytest.approx(rows[0]["loss"], rel=1e-6)
    assert rows[1]["calibration_error"] == pytest.approx(rows[0]["calibration_error"], rel=1e-5)


def test_a_batch_that_two_processes_cannot_share_is_one_line(folder: Path) -> None:
    for done in forked.run(folder, *train("--epochs", "1", "-o", "odd", "--batch", "9"), processes=2):
        assert done.code == 2
        assert "Error: batch = 9: must be a multiple of the 2 processes" in done.err
    assert not (folder / "odd").exists()


def test_a_run_killed_at_twenty_random_moments_ends_in_the_same_bits(folder: Path) -> None:
    words = train("--epochs", "24", "--save-every", "2")
    again = ("train", "--resume", "killed", "--workers", "0", "--threads", "1")
    mpvit(folder, *words, "-o", "whole")
    moments = random.Random(0)  # noqa: S311 - moments
    reached = [0]
    for kill in range(20):
        begun = (folder / "killed" / "config.json").exists()
        line = (*again, "--save-every", "2") if begun else (*words, "-o", "killed")
        running = forked.start(folder, *line)
        if kill % 4:  # the others are killed while they start
            running.wait_for("epoch")
        time.sleep(moments.uniform(0, 0.2))
        running.process.kill()
        running.process.join()
        if (folder / "killed" / "last.ckpt").exists():
            reached.append(int(torch.load(folder / "killed" / "last.ckpt", weights_only=True)["step"]))
    assert reached == sorted(reached)
    assert reached[-1] > 0
    mpvit(folder, *again)
    assert (folder / "killed" / "weights.safetensors").read_bytes() == (folder / "whole" / "weights.safetensors").read_bytes()
    assert not list((folder / "killed").glob(".*"))  # what a killed process was writing


def test_two_processes_train_a_segmenter_as_one_does(tmp_path: Path) -> None:
    """Five images are held out, an odd number; the shares of the processes have different numbers of unlabelled pixels."""
    draw_squares(tmp_path / "squares", {"train": 16, "val": 5})
    (tmp_path / "four.toml").write_text(SQUARES)
    here = ("--size", "32", "--workers", "0", "--threads", "1", "--batch", "4", "--epochs", "2")
    how = ("--config", "four.toml", "--recipe", "segment-small", *here)
    words = ("train", "--task", "segformer", "squares", *how)
    for name, processes in (("one", 1), ("two", 2)):
        mpvit(tmp_path, *words, "-o", name, processes=processes)
    first, second = (
        [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()] for run in ("one", "two")
    )
    for mine, theirs in zip(first, second, strict=True):
        assert theirs["overlap"]["pixels"] == mine["overlap"]["pixels"] == 5 * 31 * 32
        for name in ("loss", "accuracy", "held_out_loss"):
            assert theirs[name] == pytest.approx(mine[name], rel=1e-2)

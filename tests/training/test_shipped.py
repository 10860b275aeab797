"""The shipped network: its metadata is true, and training it again gives the same accuracy."""

import shlex
from pathlib import Path

import pytest
from commandline import call, rows
from pages import ROOT, blocks

from mpvit.architecture.variants import SHIPPED
from mpvit.model.weights import read_weights
from mpvit.prediction.pretrained import shipped_weights
from mpvit.training.data import open_data
from mpvit.training.metrics import wilson

PAGE = ROOT / "docs" / "train.md"

LARGEST = {"digits-nano": (150_000, 700_000)}
"""Largest number of parameters, and of bytes of the file."""


@pytest.mark.parametrize("name", SHIPPED)
def test_its_size_and_its_accuracy_are_as_documented(name: str) -> None:
    path = shipped_weights(name)
    content = read_weights(path)
    params, nbytes = LARGEST[name]
    assert content.config == SHIPPED[name]
    assert sum(tensor.numel() for key, tensor in content.tensors.items() if "running" not in key) <= params
    assert path.stat().st_size <= nbytes
    said = content.metadata.trained
    assert said is not None
    (row,) = rows(call("eval", "digits", "--variant", name, "--format", "json"))
    assert (row["images"], row["top1"]) == (said.images, said.accuracy) == (360, said.correct / 360)
    assert said.accuracy >= 0.98


@pytest.mark.slow
def test_the_first_example_of_the_page_trains_it_again_to_the_same_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_data("digits").held_out.read(99).save("digit.png")
    train, evaluate, predict = (shlex.split(line, comments=True)[1:] for line in blocks(PAGE)[0].text.splitlines())
    assert train == ["train", "digits", "-o", "run"]
    (row,) = rows(call(*train, "--workers", "0", "--threads", "1", "--format", "json"))
    said = read_weights(shipped_weights("digits-nano")).metadata.trained
    assert said is not None
    low, high = wilson(said.correct, said.images)
    assert low <= row["top1"] <= high
    assert row["top1"] > 0.98
    (evaluated,) = rows(call(*evaluate, "--format", "json"))
    assert evaluated["top1"] == row["top1"]
    assert rows(call(*predict, "--top", "1", "--format", "json"))[0]["class_name"] == "2"

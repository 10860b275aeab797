"""The network that comes along: what its file says is true, and training it anew comes to the same."""

import json
from pathlib import Path

import pytest
from commandline import COMMAND, call, run

from mpvit.model.weights import read_weights
from mpvit.prediction.pretrained import shipped_weights
from mpvit.training.metrics import wilson
from mpvit.variants import SHIPPED

LARGEST = {"digits-nano": (150_000, 700_000)}
"""Parameters, and bytes of the file, at most."""


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_as_small_as_promised_and_its_accuracy_is_what_it_says(name: str) -> None:
    path = shipped_weights(name)
    content = read_weights(path)
    params, nbytes = LARGEST[name]
    assert content.config == SHIPPED[name]
    assert sum(tensor.numel() for key, tensor in content.tensors.items() if "running" not in key) <= params
    assert path.stat().st_size <= nbytes
    said = content.metadata.trained
    assert said is not None
    done = call("eval", "digits", "--variant", name, "--format", "json")
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)["results"]
    assert (row["images"], row["top1"]) == (said.images, said.accuracy) == (360, said.correct / 360)
    assert said.accuracy >= 0.98


@pytest.mark.slow
def test_trained_anew_it_comes_to_the_same(tmp_path: Path) -> None:
    """The published first use: digits from nothing, evaluated and used."""
    done = run("train", "digits", "-o", "run", "--format", "json", command=(COMMAND,), cwd=tmp_path)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)["results"]
    said = read_weights(shipped_weights("digits-nano")).metadata.trained
    assert said is not None
    low, high = wilson(said.correct, said.images)
    assert low <= row["top1"] <= high
    assert row["top1"] > 0.98
    evaluated = run("eval", "digits", "--weights", "run/weights.safetensors", "--format", "json", cwd=tmp_path)
    assert json.loads(evaluated.out)["results"][0]["top1"] == row["top1"]

"""``--task`` of layers, memory, reconcile, bench and compare-attn: one set of options, one convention, the same figures."""

import json
from typing import Any

import pytest
from chosen import chosen
from commandline import call

from mpvit import VARIANTS
from mpvit.counting import count_network
from mpvit.dense import TASKS, get_tasks, network
from mpvit.network import NamedNetwork
from mpvit.operations.conventions import tally

FEW = ("--proposals", "6", "--detections", "3")


def rows(*words: str) -> list[dict[str, Any]]:
    outcome = call(*words, "--format", "json")
    assert outcome.code == 0, outcome.err
    found: list[dict[str, Any]] = json.loads(outcome.out)["results"]
    return found


def exact(name: str, **numbers: int) -> tuple[int, int]:
    (task,) = get_tasks([name], **numbers)
    cost = tally(network(VARIANTS["tiny"].config, task, 1, *task.size), "matmul").cost
    return cost.params, cost.macs


# ── layers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_layers_are_those_of_backbone_and_head_at_each_tasks_own_size() -> None:
    found = rows("layers", "--task", "all", "--variant", "tiny")
    roots = [row for row in found if row["depth"] == 0]
    assert [(row["model"], row["task"]) for row in roots] == [("tiny", name) for name in TASKS]
    for row in roots:
        task = TASKS[row["task"]]
        assert (row["params"], row["macs"]) == exact(task.name)
        shapes = row["input_shape"] if task.proposals else [row["input_shape"]]
        assert shapes[0] == [1, 3, *task.size]
        assert row["classes"] == task.classes
        below = [each for each in found if each["task"] == task.name and each["parent"] == ""]
        assert [each["path"] for each in below] == ["backbone", "head"]
        assert sum(each["macs"] for each in below) == row["macs"]


def test_a_module_that_all_levels_share_is_one_layer() -> None:
    found = {row["path"]: row for row in rows("layers", "--task", "retinanet", "--variant", "tiny", "--size", "97x65")}
    assert (found["head.class_subnet.0"]["calls"], found["head.class_subnet.0"]["params"]) == (5, 9 * 256 * 256 + 256)
    err = call("layers", "--task", "upernet", "--variant", "tiny").err
    assert "never called as modules, so listed with 0 calls and their parameters: head.auxiliary" in err


# ── memory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_memory_of_published_detectors() -> None:
    words = ("memory", "--task", "retinanet,mask-rcnn", "--variant", "small", "--batch", "2", "--optimizer", "sgd")
    for row, params in zip(rows(*words), (32_294_268, 42_744_184), strict=True):
        assert row["params"] == params
        assert row["params_bytes"] == row["gradient_bytes"] == 4 * params
        assert row["peak_bytes"] == 8 * params + row["saved_activation_bytes"] + row["transient_bytes"]


def test_regions_take_what_they_take() -> None:
    """Each proposal its features and two hidden layers of 1024 behind a ReLU, in float32."""
    words = ("memory", "--task", "mask-rcnn", "--variant", "tiny", "--size", "64", "--detections", "3", "--proposals")
    six, seven = (rows(*words, number)[0] for number in ("6", "7"))
    assert seven["saved_activation_bytes"] - six["saved_activation_bytes"] == 4 * (256 * 7 * 7 + 2 * 1024)
    assert (six["proposals"], six["detections"]) == (6, 3)


def test_the_largest_batch_of_a_segmenter() -> None:
    words = ("memory", "--task", "upernet", "--variant", "tiny", "--size", "128", "--batch", "2")
    (row,) = rows(*words, "--budget", "4GiB")
    largest = row["largest_batch"]
    for batch, fits in ((largest, True), (largest + 1, False)):
        (row,) = rows(*words[:-1], str(batch))
        assert (row["peak_bytes"] <= 4 * 2**30) is fits


def test_memory_says_what_is_not_in_it() -> None:
    err = call("memory", "--task", "mask-rcnn", "--variant", "tiny", "--size", "64", *FEW).err
    assert "ends at the raw outputs, so what a loss keeps is not included" in err
    assert "512 proposals and 128 detections" in err


# ── reconcile ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_fvcore_is_explained_at_the_published_size() -> None:
    (row,) = rows("reconcile", "--task", "upernet", "--variant", "small", "--tool", "fvcore")
    (counted,) = rows("flops", "--task", "upernet", "--variant", "small", "--convention", "fvcore")
    assert row["macs"] == counted["macs"]
    assert (row["task"], row["model"], row["params"]) == ("upernet", "small", counted["params"])


def test_thop_multiplies_a_transposed_convolution_more_often_than_it_is() -> None:
    (row,) = rows("reconcile", "--task", "mask-rcnn", "--variant", "tiny", "--tool", "thop")
    mask = 100 * 256 * 14 * 14 * 256 * 4
    assert row["terms"]["transposed convolutions"] == 3 * mask


def test_each_network_under_each_task_has_its_own_waterfall() -> None:
    out = call("reconcile", "--task", "segformer,retinanet", "--variant", "tiny,xsmall", "--tool", "torch").out
    titles = [line.partition(":")[0] for line in out.splitlines() if "exact:" in line]
    assert titles == ["segformer on tiny", "segformer on xsmall", "retinanet on tiny", "retinanet on xsmall"]


def test_a_tool_itself_is_run() -> None:
    (row,) = rows("reconcile", "--task", "segformer", "--variant", "tiny", "--size", "64x32", "--tool", "torch", "--live")
    assert (row["residual_macs"], row["live_macs"]) == (0, row["exact_macs"])


# ── bench ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("backward", chosen([False, True], False))  # noqa: FBT003
def test_bench_times_the_built_network(backward: bool) -> None:  # noqa: FBT001
    words = ("--task", "mask-rcnn", "--variant", "tiny", "--size", "32", "--min-time", "0.01", "--classes", "4", *FEW)
    found = rows("bench", *words, *(["--backward", "--batch", "2"] if backward else []))
    (row,) = (row for row in found if row["table"] == "networks")
    assert (row["task"], row["classes"], row["proposals"]) == ("mask-rcnn", 4, 6)
    assert row["batch"] == (2 if backward else 1)
    assert row["latency_s"] > 0
    (task,) = get_tasks(["mask-rcnn"], classes=4, proposals=6, detections=3)
    forward = count_network(NamedNetwork("tiny", VARIANTS["tiny"].config, (32, 32), task), convention="exact").macs
    assert row["macs"] == forward if not backward else row["macs"] > 2 * 2 * (forward or 0)


# ── compare-attn ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_full_attention_at_the_first_stage_of_a_detector() -> None:
    found = rows("compare-attn", "--task", "retinanet", "--variant", "small", "--kind", "softmax,factorized")
    first = found[0]
    assert (first["stage"], first["tokens"], first["dim"], first["heads"]) == (2, 64_000, 64, 8)
    assert first["macs"] == 2 * 64_000**2 * 64
    assert first["extra_bytes"] == 4 * 8 * 64_000**2
    assert [row["fits"] for row in found if row["kind"] == "softmax"] == [False, True, True, True]
    assert all(row["fits"] for row in found if row["kind"] == "factorized")
    assert (
        "64 000 tokens make one tensor of 122.07 GiB" in call("compare-attn", "--task", "retinanet", "--variant", "small").err
    )


def test_its_layers_add_up_to_the_attention_of_the_network() -> None:
    """Of full attention, whose products are all of a network's einsums."""
    words = ("--task", "semantic-fpn", "--variant", "tiny", "--size", "65x97")
    found = rows("compare-attn", *words, "--kind", "softmax")
    by_kind = rows("flops", *words, "--attention", "softmax", "--convention", "matmul")[0]["by_kind"]
    assert sum(row["layers"] * row["macs"] for row in found) == by_kind["matmul"]


def test_memory_is_what_one_has() -> None:
    words = ("compare-attn", "--task", "upernet", "--variant", "tiny", "--size", "64", "--kind", "softmax", "--memory")
    assert [row["fits"] for row in rows(*words, "1MiB")] == [False, True, True, True]
    assert "Every tensor fits into 2.00 MiB." in call(*words, "2MiB").err


# ── what cannot be asked ────────────────────────────────────────────────────────────────────────────────────────────

UGLY = {
    "layers --task retinanets": "unknown task 'retinanets'",
    "layers --classes 5": "--classes: needs --task",
    "layers --task upernet --proposals 5": "proposals = 5: upernet has no proposals",
    "layers --task upernet --model torch.nn:Identity": "--task with --model",
    "layers --task upernet --size 0": "--size '0'",
    "memory --task upernet --variant tiny": "batch norm cannot train on one value per channel",
    "memory --task retinanet --classes 0": "classes = 0: must be a whole number of at least 1",
    "memory --detections 5": "--detections: needs --task",
    "memory --task segformer --batch 0": "batch = 0: must be at least 1",
    "reconcile --task retinanet --layout published": "--layout published with --task: must be project",
    "reconcile --task retinanet --classes many": "'many' must be a whole number",
    "bench --task all": "unknown task 'all'",
    "bench --task upernet,retinanet": "unknown task 'upernet,retinanet'",
    "bench --task upernet --mode fused": "task upernet in mode 'fused': must be a classifier",
    "bench --task upernet --by layer": "task upernet by layer: must be by network",
    "bench --proposals 5": "--proposals: needs --task",
    "compare-attn --size 512": "--size: needs --task",
    "compare-attn --memory 2GiB": "--memory: needs --task",
    "compare-attn --task upernet --tokens 49": "--tokens with --task: choose one of them",
    "compare-attn --task upernet --sweep 1..9": "--sweep with --task: choose one of them",
    "compare-attn --task upernet --measure": "--measure with --task: choose one of them",
    "compare-attn --task upernet --memory lots": "--memory 'lots': must be a number and a unit",
    "compare-attn --task upernet --memory 0": "--memory 0: must be at least 1 byte",
    "compare-attn --task upernet --kind softmin": "unknown attention 'softmin'",
}


@pytest.mark.parametrize("words", UGLY)
def test_bad_input_ends_in_one_clear_line(words: str) -> None:
    outcome = call(*words.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert UGLY[words] in outcome.err
    assert len([line for line in outcome.err.splitlines() if line.startswith("Error:")]) == 1
    assert "Traceback" not in outcome.err

"""``mpvit flops --task`` as a person uses it: the published tables, every option, and everything that can be mistyped."""

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import Outcome, call

from mpvit import VARIANTS
from mpvit.architecture.config import save_config
from mpvit.counting import TASK_CUTS, count_network
from mpvit.counting.published import check, published_tasks
from mpvit.dense import TASKS
from mpvit.errors import CheckError
from mpvit.network import NamedNetwork
from mpvit.operations import Cost

PUBLISHED = [  # task, model, millions of parameters, billions of MACs, whether the MACs come out
    ("retinanet", "tiny (MLP ratio 4)", 17, 196, True),
    ("retinanet", "xsmall", 20, 211, True),
    ("retinanet", "small", 32, 248, True),
    ("retinanet", "base", 85, 482, True),
    ("mask-rcnn", "tiny (MLP ratio 4)", 28, 216, True),
    ("mask-rcnn", "xsmall", 30, 231, True),
    ("mask-rcnn", "small", 43, 268, True),
    ("mask-rcnn", "base", 95, 503, True),
    ("upernet", "small", 52, 943, True),
    ("upernet", "base", 105, 1185, False),
]


def flops(*arguments: str) -> Outcome:
    return call("flops", *arguments)


def rows(*arguments: str) -> list[dict[str, Any]]:
    outcome = flops(*arguments, "--format", "json")
    assert outcome.code == 0, outcome.err
    found: list[dict[str, Any]] = json.loads(outcome.out)["results"]
    return found


# ── the published tables ────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_rows_stand_beside_what_is_printed_of_them() -> None:
    code, out, err = flops("--task", "all", "--check")
    assert code == 0
    title, header, _, *lines = out.splitlines()
    assert title == "convention published-dense"
    assert re.split(" {2,}", header) == ["Task", "Model", "Input", "Params", "Published, M", "MACs", "Published, G"]
    for (task, model, params, macs, comes_out), line in zip(PUBLISHED, lines, strict=True):
        cells = re.split(" {2,}", line)
        assert cells[:2] == [task, model]
        assert cells[4] == f"{params}✓"
        assert cells[6] == f"{macs:,}".replace(",", " ") + ("✓" if comes_out else "✗")
        assert round(int(cells[3].replace(" ", "")) / 1e6) == params
        assert (round(int(cells[5].replace(" ", "")) / 1e9) == macs) is comes_out
    assert "10 of 10 params and 9 of 10 MACs do" in err
    assert "leave out the einsums of the attention" in err
    assert "The published tiny backbone has MLP ratio 4." in err
    assert "retinanet has 15.10 M params and 184.35 G MACs; mask-rcnn has 25.71 M params and 203.61 G MACs" in err
    assert "upernet on base: none of 4 conventions explains the published 1185 G" in err
    assert "1187.66 G (published-dense)" in err


def test_rows_say_what_is_printed_and_what_agrees() -> None:
    found = rows("--task", "all", "--check")
    assert [(r["task"], r["model"], *r["published"].values(), r["macs_agree"]) for r in found] == PUBLISHED
    assert all(row["params_agree"] for row in found)
    assert [row["agrees_with_published"] for row in found] == [comes_out for *_, comes_out in PUBLISHED]
    assert found[0]["published"].keys() == {"params_millions", "macs_billions"}


def test_a_check_is_of_what_is_asked_for() -> None:
    found = rows("--task", "upernet,retinanet", "--variant", "base,xsmall", "--check")
    assert [(row["task"], row["model"]) for row in found] == [
        ("retinanet", "xsmall"),
        ("retinanet", "base"),
        ("upernet", "base"),
    ]
    assert "MLP ratio" not in flops("--task", "retinanet", "--variant", "base", "--check").err


def test_a_check_fails_where_a_printed_figure_does_not_come_out() -> None:
    """And where UperNet base suddenly would."""
    networks = [NamedNetwork(v, VARIANTS[v].config, task.size, task) for task in TASKS.values() for v in VARIANTS]
    counts = [replace(count_network(network), printed=row) for network, row in published_tasks(networks).items()]
    check(counts)
    for changed in (
        replace(counts[1], params=21_000_000),
        replace(counts[1], macs=211_500_000_000),
        replace(counts[-1], params=106_000_000),
        replace(counts[-1], macs=1_185_000_000_000),
    ):
        with pytest.raises(CheckError, match=f"{changed.label}: {changed.params} parameters and {changed.macs} MACs"):
            check([counts[0], changed])
    check([replace(counts[1], macs=211_499_999_999)])


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_task_on_every_variant_at_its_own_size() -> None:
    found = rows("--task", "all")
    assert [(r["task"], r["model"]) for r in found] == [(task, model) for task in TASKS for model in VARIANTS]
    for row in found:
        task = TASKS[row["task"]]
        assert (row["input_shape"], row["classes"]) == ([1, 3, *task.size], task.classes)
        assert sum(row["by_kind"].values()) == row["macs"] == row["flops"] / 2
        assert row["by_kind"].keys() == {"conv", "linear", "batch_norm", "layer_norm", "group_norm"}
        assert row["not_counted"]["matmul"]
        assert row["published"] is None
        assert ("proposals" in row) is ("detections" in row) is (row["task"] == "mask-rcnn")
    assert found[0]["params"] == 15_104_612  # tiny as classified: 15.10 M


def test_regions_cost_what_their_heads_multiply() -> None:
    """A proposal 12544·1024 + 1024² + 1024·(81 + 320); a detection 4·14²·9·256² + 28²·256² + 28²·256·80."""
    (few,), (more,) = (
        rows("--task", "mask-rcnn", "--variant", "tiny", "--proposals", str(n), "--detections", str(n + 1)) for n in (1, 11)
    )
    a_proposal = 12544 * 1024 + 1024**2 + 1024 * (81 + 320)
    a_detection = 4 * 14**2 * 9 * 256**2 + 28**2 * 256**2 + 28**2 * 256 * 80
    assert more["macs"] - few["macs"] == 10 * (a_proposal + a_detection)
    assert (more["proposals"], more["detections"], more["params"]) == (11, 12, few["params"])


def test_another_class_costs_what_the_last_layer_multiplies() -> None:
    (few,), (more,) = (rows("--task", "upernet", "--variant", "tiny", "--size", "64x96", "--classes", n) for n in ("5", "6"))
    assert more["macs"] - few["macs"] == 16 * 24 * 512
    assert more["params"] - few["params"] == (512 + 1) + (256 + 1)  # the auxiliary head has it too
    assert few["input_shape"] == [1, 3, 64, 96]


def test_a_batch_costs_as_many_times() -> None:
    (one,), (three,) = (rows("--task", "mask-rcnn", "--variant", "tiny", "--size", "97", "--batch", n) for n in ("1", "3"))
    assert (three["macs"], three["params"]) == (3 * one["macs"], one["params"])


@pytest.mark.parametrize("by", TASK_CUTS[1:])
@pytest.mark.parametrize("task", TASKS)
def test_parts_sum_to_the_total(task: str, by: str) -> None:
    *parts, total = rows("--task", task, "--variant", "tiny", "--by", by)
    assert total["part"] == "total"
    for figure in Cost.figures():
        assert sum(row[figure] for row in parts) == total[figure]
    assert {row["task"] for row in parts} == {task}


def test_parts_of_a_detector() -> None:
    found = {row["part"]: row for row in rows("--task", "retinanet", "--variant", "xsmall", "--by", "part")}
    assert list(found) == ["backbone", "fpn", "coarse", "class subnet", "box subnet", "total"]
    subnet = 4 * (9 * 256 * 256 + 256) + (9 * 256 * 720 + 720)
    positions = 100 * 160 + 50 * 80 + 25 * 40 + 13 * 20 + 7 * 10
    assert found["class subnet"]["params"] == subnet
    assert found["class subnet"]["macs"] == positions * 9 * 256 * (4 * 256 + 720)


def test_other_networks_conventions_and_the_environment(tmp_path: Path) -> None:
    save_config(VARIANTS["tiny"].config, tmp_path / "mine.toml")
    (mine,) = rows("--task", "segformer", "--config", str(tmp_path / "mine.toml"))
    (tiny,) = rows("--task", "segformer", "--variant", "tiny")
    assert mine == tiny | {"model": "mine"}
    (matmul,) = rows("--task", "segformer", "--variant", "tiny", "--convention", "matmul")
    assert matmul["by_kind"]["matmul"] > 0
    assert matmul["by_kind"]["conv"] == tiny["by_kind"]["conv"]
    (softmax,) = rows("--task", "segformer", "--variant", "tiny", "--attention", "softmax", "--convention", "matmul")
    assert (softmax["model"], softmax["params"]) == ("tiny+softmax", tiny["params"])
    assert softmax["macs"] > matmul["macs"]
    set_to_64 = call("flops", "--task", "segformer", "--variant", "tiny", "--format", "json", variables={"MPVIT_SIZE": "64"})
    assert json.loads(set_to_64.out)["results"][0]["input_shape"] == [1, 3, 64, 64]


def test_csv_has_one_header_for_all_tasks() -> None:
    found = list(csv.DictReader(io.StringIO(flops("--task", "all", "--variant", "tiny", "--format", "csv").out), strict=True))
    assert [row["task"] for row in found] == list(TASKS)
    assert [row["proposals"] for row in found] == ["", "1000", "", "", ""]


# ── what can be mistyped ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "named", "hint"),
    [
        (["--task", "retinanets"], "unknown task 'retinanets'", "did you mean 'retinanet'?"),
        (["--task", ""], "unknown task ''", ""),
        (["--task"], "'--task' requires an argument", "mpvit flops --help"),
        (["--task", "upernet", "--classes", "0"], "classes = 0: must be", ""),
        (["--task", "upernet", "--classes", "many"], "'--classes': 'many'", "mpvit flops --help"),
        (["--task", "mask-rcnn", "--proposals", "-1"], "proposals = -1: must be", ""),
        (["--task", "all", "--detections", "0"], "detections = 0: must be", ""),
        (
            ["--task", "retinanet", "--proposals", "10"],
            "proposals = 10: retinanet has no proposals",
            "tasks that have proposals: mask-rcnn",
        ),
        (["--task", "upernet", "--size", "0"], "--size '0'", ""),
        (["--task", "upernet", "--batch", "0"], "batch = 0", ""),
        (["--task", "upernet", "--by", "parts"], "unknown part 'parts'", "did you mean 'part'?"),
        (["--task", "upernet", "--convention", "publishd-dense"], "unknown convention 'publishd-dense'", "'published-dense'"),
        (["--task", "upernet", "--counter", "torch"], "--task with --counter torch", "leave --counter out"),
        (["--task", "upernet", "--variant", "digits-nano"], "upernet on a network of 2 stages", "strides 4, 8, 16, 32"),
        (["--classes", "80"], "--classes: needs --task", "retinanet"),
        (["--proposals", "10"], "--proposals: needs --task", "retinanet"),
        (["--by", "part"], "--by part: needs --task", "retinanet"),
        (
            ["--task", "segformer", "--check"],
            "nothing is published to compare these counts with",
            "retinanet, mask-rcnn, upernet",
        ),
        (["--task", "upernet", "--variant", "tiny", "--check"], "nothing is published", ""),
        (["--task", "retinanet", "--size", "224", "--check"], "nothing is published", ""),
        (["--task", "retinanet", "--classes", "20", "--check"], "nothing is published", ""),
        (["--task", "retinanet", "--batch", "2", "--check"], "nothing is published", ""),
        (["--task", "retinanet", "--convention", "exact", "--check"], "nothing is published", ""),
        (["--task", "retinanet", "--attention", "softmax", "--check"], "nothing is published", ""),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(arguments: list[str], named: str, hint: str) -> None:
    code, out, err = flops(*arguments)
    error, *hints = err.splitlines()
    assert (code, out) == (2, "")
    assert error.startswith("Error: ")
    assert named in error
    assert len(hints) <= 1
    assert hint in "".join(hints)


def test_the_smallest_image_has_a_position_on_every_level() -> None:
    """As the grid of a stride of 2 is floor((n - 1) / 2) + 1, no size is too small."""
    assert all(row["macs"] > 0 for row in rows("--task", "all", "--variant", "tiny", "--size", "1"))

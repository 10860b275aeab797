"""``mpvit bench``: work in closed form, results, files, and what it does when it is cut short."""

import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commandline import COMMAND, environment, run, run_on_terminal, shown
from matplotlib.text import Annotation, Text
from recorded import conv, einsum, elementwise
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mpvit import imports
from mpvit.architecture.closed_form import network
from mpvit.architecture.config import ModelConfig, StageConfig
from mpvit.architecture.variants import VARIANTS
from mpvit.benchmark import ceilings
from mpvit.benchmark import measure as benchmark
from mpvit.benchmark.layers import layer_cases
from mpvit.benchmark.modes import MODES, Mode, build, forward_and_backward
from mpvit.benchmark.results import LayerTime, NetworkTime
from mpvit.benchmark.roofline import Ceilings, RooflinePoint, Work, moved_elements, network_work
from mpvit.benchmark.study import BenchmarkStudy
from mpvit.counting import count
from mpvit.measurement import INTERRUPTED, OUT_OF_MEMORY, Measurement, timing
from mpvit.measurement.timing import Case
from mpvit.model.network import MPViT
from mpvit.network import NamedNetwork
from mpvit.operations import Block
from mpvit.operations.conventions import tally
from mpvit.plots import save_figure
from mpvit.plots.roofline import roofline_figure
from mpvit.tables.benchmark import benchmark_document
from mpvit_cli.main import main

SMALL = ModelConfig((StageConfig(2, 1, 16, 2, 2), StageConfig(2, 1, 32, 2, 2)), num_classes=10)
TOML = """num_classes = 10
[[stages]]
paths = 2
layers = 1
dim = 16
heads = 2
mlp_ratio = 2
[[stages]]
paths = 2
layers = 1
dim = 32
heads = 2
mlp_ratio = 2
"""
QUICK = "--size 32 --batch 2 --threads 1 --min-time 0.01"


@pytest.fixture(autouse=True)
def _small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "PRODUCT_SIDE", {"cpu": 128})
    monkeypatch.setattr(ceilings, "COPIED_BYTES", {"cpu": 2**20})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def bench(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    def call(options: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["mpvit", "bench", "--config", str(config), *shlex.split(f"{QUICK} {options}")])
        code = main()
        return code, *capsys.readouterr()

    return call


def rows(path: Path, table: str) -> list[dict[str, Any]]:
    content = json.loads(path.read_text())
    assert content["command"] == "bench"
    return [row for row in content["results"] if row["table"] == table]


def notes(path: Path) -> set[str]:
    return set(json.loads(path.read_text())["notes"])


def measurement(*samples: float, name: str = "case", error: str = "", stopped: str = "") -> Measurement:
    return Measurement(name=name, samples_s=samples, device="cpu", threads=1, error=error, stopped=stopped)


# ── work in closed form ─────────────────────────────────────────────────────────────────────────────────────────────


def test_bytes_of_one_operation() -> None:
    # 3x3 convolution of 8 maps of 4x4 to 16: 8·16 numbers read, 16·16 written, 16·8·9 weights
    assert moved_elements([conv((1, 8, 4, 4), 16, 3)]) == 128 + 256 + 1152
    assert moved_elements([elementwise("add", (2, 3), (2, 3))]) == 6 + 6 + 6
    # (2, 5, 7)·(2, 7, 3): both operands and the product; and the transposed left operand of a context
    assert moved_elements([einsum("bnc,bcm->bnm", (2, 5, 7), (2, 7, 3))]) == 2 * (35 + 21 + 15)
    assert moved_elements([einsum("bhnk,bhnv->bhkv", (2, 4, 9, 6), (2, 4, 9, 6))]) == 2 * 4 * (54 + 54 + 36)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_forward_pass_is_the_exact_count(variant: str) -> None:
    tree = network(VARIANTS[variant].config, 3, 64, 96)
    work = network_work(tree, "float32")
    assert work.macs == count(variant, (64, 96), batch=3, convention="exact").macs
    assert network_work(tree, "bfloat16").moved_bytes * 2 == work.moved_bytes


def test_a_backward_pass_is_what_torch_counts() -> None:
    """Torch's counter takes the gradients of grouped convolutions for dense ones, so convolutions are those of the stem."""
    with torch.device("meta"):
        model, images = MPViT(SMALL), torch.empty(4, 3, 64, 64)
    tree = network(SMALL, 4, 64, 64)
    with FlopCounterMode(display=False) as counter:
        forward_and_backward(model, images)()
    dense = {str(name): flops // 2 for name, flops in counter.get_flop_counts()["Global"].items() if "conv" not in str(name)}
    kinds = tally(tree, "exact").by_kind
    assert sum(dense.values()) == 3 * (kinds["linear"] + kinds["matmul"])
    stem = Block({"stem": tree.children["stem"]})
    with FlopCounterMode(display=False) as counter:
        forward_and_backward(model.stem, images)()
    norms = tally(stem, "exact").by_kind["batch_norm"]
    assert network_work(stem, "float32", backward=True).macs - norms == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        ({"plain": 60, "fused": 40, "openvino": 30}, ("openvino", "fused", "1.33 (1.33–1.33)")),
        ({"plain": 60, "fused": None, "openvino": 90}, ("plain", "openvino", "1.50 (1.50–1.50)")),
        ({"plain": 60, "fused": 40}, None),
        ({"plain": 60, "fused": None, "openvino": None}, None),
    ],
    ids=["three modes", "one failed", "two modes", "one alone"],
)
def test_the_fastest_of_three_modes_is_named(milliseconds: dict[str, float | None], said: tuple[str, ...] | None) -> None:
    study = BenchmarkStudy(networks=(NamedNetwork("small", SMALL, (32, 32)),), batches=(2,), modes=tuple(milliseconds))
    top = Ceilings(product=measurement(0.1), product_macs=10**10, copy=measurement(0.1), copy_bytes=10**9)
    times = [
        NetworkTime(
            model="small", input_shape=(2, 3, 32, 32), mode=mode, passes="forward", timed=RooflinePoint(Work(1, 1), taken, top)
        )
        for mode, each in milliseconds.items()
        for taken in [measurement(error="it failed") if each is None else measurement(*[each / 1e3] * 6)]
    ]
    tables = [
        table
        for table in benchmark_document(study, times).tables
        if table.title == "The fastest mode of each network and batch"
    ]
    assert [tuple(row[i] for i in (2, 4, 5)) for table in tables for row in table.rows] == ([said] if said else [])


def test_layers_add_up_to_the_network() -> None:
    model, images, tree = MPViT(SMALL).eval(), torch.zeros(2, 3, 32, 32), network(SMALL, 2, 32, 32)
    layers = layer_cases(model, images, tree, "float32")
    pool = 2 * 32 * 4 * 4  # the only operation with multiply-adds that is no layer
    assert sum(layer.calls * layer.work.macs for layer in layers) == tally(tree, "exact").cost.macs - pool
    for layer in layers:
        layer.call()
    calls = {(layer.part, layer.input_shape): layer.calls for layer in layers}
    assert calls["stage 2 attention.attend", (2, 2, 64, 8)] == 2
    assert calls["stage 3 embedding.depthwise", (2, 32, 8, 8)] == 1
    assert calls["stage 3 embedding.depthwise", (2, 32, 4, 4)] == 1


def test_shares_of_the_ceilings() -> None:
    top = Ceilings(
        product=measurement(0.2, 0.1), product_macs=100, copy=measurement(0.5, 0.4), copy_bytes=400
    )  # 1000 MAC/s and 1000 bytes/s, of the fastest samples
    assert (top.macs_per_s, top.bytes_per_s) == (1000, 1000)
    timed = RooflinePoint(Work(500, 2000), measurement(3.0, 4.0, 9.0), top)
    assert (timed.macs_per_s, timed.bytes_per_s) == (125, 500)
    assert (timed.share_of_product, timed.share_of_copy, timed.share_of_roof) == (0.125, 0.5, 0.5)
    assert timed.work.intensity == 0.25
    unknown = Ceilings(product=measurement(), product_macs=1, copy=measurement(), copy_bytes=1)
    assert RooflinePoint(Work(1, 1), measurement(1.0), unknown).share_of_roof is None


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rows_hold_what_was_measured(bench: Callable[[str], tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = bench("--batch 1,2 --mode plain,fused -o b.json")
    assert (code, out) == (0, "")
    assert [note for note in notes(tmp_path / "b.json") if note.startswith("speed-up: ")]
    found = rows(tmp_path / "b.json", "networks")
    assert [(row["mode"], row["batch"]) for row in found] == [("plain", 1), ("fused", 1), ("plain", 2), ("fused", 2)]
    for row in found:
        assert row["macs"] == count(SMALL, 32, batch=row["batch"], convention="exact").macs
        assert row["macs_per_s"] == row["macs"] / row["latency_s"]
        assert row["images_per_s"] == row["batch"] / row["latency_s"]
        assert row["latency_q1_s"] <= row["latency_s"] <= row["latency_q3_s"]
        assert len(row["samples_s"]) >= 5
        assert row["peak_bytes"] > 4 * row["batch"] * 16 * 8 * 8  # the first stage's output at the least
        assert row["relative_difference"] <= 1e-4
    assert found[0]["speedup"] is None
    assert found[1]["speedup_low"] <= found[1]["speedup"] <= found[1]["speedup_high"]
    top = rows(tmp_path / "b.json", "ceilings")
    assert [(row["part"], row.get("macs")) for row in top] == [("matrix product", 128**3), ("copy", None)]
    assert found[0]["ceiling_macs_per_s"] == 128**3 / min(top[0]["samples_s"])
    ran = json.loads((tmp_path / "b.json").read_text())["environment"]
    assert (ran["device"], ran["threads"], ran["dtype"]) == ("cpu", 1, "float32")


@pytest.mark.parametrize(
    "options", ["--backward", "--dtype bfloat16 --mode plain,fused", "--format csv", "--format markdown", "--format latex"]
)
def test_other_ways_to_measure_and_write(bench: Callable[[str], tuple[int, str, str]], options: str) -> None:
    code, out, _ = bench(options)
    assert code == 0
    assert "small" in out


def test_layers_are_timed_and_drawn(bench: Callable[[str], tuple[int, str, str]], tmp_path: Path) -> None:
    code, out, _ = bench("--by layer --plot roof.png -o b.json")
    assert (code, out) == (0, "")
    assert [note for note in notes(tmp_path / "b.json") if "the layers, timed one by one" in note]
    found = rows(tmp_path / "b.json", "layers")
    assert {row["kind"] for row in found} >= {"conv", "depthwise conv", "linear", "attention", "relative encoding"}
    assert all(row["total_s"] == row["calls"] * row["latency_s"] for row in found)
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")


def test_a_baseline_gives_a_ratio_with_its_interval(bench: Callable[[str], tuple[int, str, str]], tmp_path: Path) -> None:
    assert bench("-o before.json")[0] == 0
    content = json.loads((tmp_path / "before.json").read_text())
    for row in content["results"]:
        row["samples_s"] = [1.0] * 5
    (tmp_path / "before.json").write_text(json.dumps(content | {"environment": content["environment"] | {"threads": 64}}))
    assert bench("--compare before.json -o after.json")[0] == 0
    said = notes(tmp_path / "after.json")
    assert "Different from the baseline: threads 64 then, 1 now." in said
    assert [note for note in said if note.startswith("The machine itself, over baseline: matrix product")]
    (row,) = rows(tmp_path / "after.json", "networks")
    assert row["baseline_speedup"] == pytest.approx(1 / row["latency_s"])
    assert row["baseline_speedup_low"] <= row["baseline_speedup"] <= row["baseline_speedup_high"]


UGLY = {
    "--mode plian": (2, "unknown mode 'plian'", "did you mean 'plain'?"),
    "--dtype float23": (2, "unknown dtype 'float23'", "did you mean 'float32'?"),
    "--dtype tf32": (2, "dtype 'tf32' on cpu: must be on CUDA", "float32"),
    "--by path": (2, "unknown part 'path'", ""),
    "--batch 0": (2, "--batch '0': must be whole numbers", "for example"),
    "--batch 1,,2": (2, "--batch '1,,2': must be whole numbers", "for example"),
    "--batch many": (2, "--batch 'many': must be whole numbers", "for example"),
    "--size 0": (2, "--size '0'", ""),
    "--min-time 0": (2, "min_time_s = 0.0: must be a number of seconds above 0", ""),
    "--min-time nan": (2, "min_time_s = nan", ""),
    "--budget -1": (2, "budget_s = -1.0", ""),
    "--budget inf": (2, "budget_s = inf", ""),
    "--threads 0": (2, "threads = 0: must be from 1", ""),
    "--threads 99999999": (2, "threads = 99999999", ""),
    "--device cuda:99": (2, "device 'cuda:99'", ""),
    "--mode fused --backward": (2, "backward in mode 'fused'", "plain"),
    "--by layer --mode plain,fused": (2, "by layer: must be the forward pass in mode plain", ""),
    "--plot roof.gif": (2, "--plot 'roof.gif': must end in", ""),
    "--format yaml": (2, "unknown format 'yaml'", ""),
    "--compare none.json": (2, "cannot read 'none.json'", "-o FILE.json"),
    "--compare .": (2, "cannot read '.'", "-o FILE.json"),
    "--compare text.json": (2, "'text.json' is not a result of mpvit bench: JSON is malformed", "-o FILE.json"),
    "--compare list.json": (2, "'list.json' is not a result of mpvit bench", "-o FILE.json"),
    "--compare flops.json": (2, "'flops.json' is not a result of mpvit bench", "-o FILE.json"),
    "--compare damaged.json": (
        2,
        "'damaged.json' is not a result of mpvit bench: Expected `float` > 0.0",
        "-o FILE.json",
    ),
    "--compare other.json": (2, "baseline 'other.json' has no row of the same model", "options that wrote"),
    "-o missing/b.json": (1, "cannot write 'missing/b.json'", "folder"),
}


@pytest.mark.parametrize("options", UGLY)
def test_ugly_input_is_refused_in_one_line(bench: Callable[[str], tuple[int, str, str]], tmp_path: Path, options: str) -> None:
    files: Mapping[str, object] = {
        "list.json": [1, 2],
        "flops.json": {"command": "flops", "results": []},
        "damaged.json": {"command": "bench", "environment": {}, "results": [{"samples_s": [1.0, -1.0]}]},
        "other.json": {"command": "bench", "environment": {}, "results": [{"table": "networks", "samples_s": [1.0]}]},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "text.json").write_bytes(b"\xff\xfe not json")
    before = sorted(tmp_path.iterdir())
    expected_code, expected, hint = UGLY[options]
    code, out, err = bench(options)
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert (code, out) == (expected_code, "")
    assert len(errors) == 1
    assert expected in errors[0]
    assert hint in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


# ── cut short ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_interrupt_shows_what_it_has(
    bench: Callable[[str], tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[Measurement, ...]] = []

    def interrupted_at_batch_2(cases: Mapping[str, Case], *, min_time_s: float, **_: object) -> tuple[Measurement, ...]:
        runs.append(timing.run(cases, min_time_s=min_time_s))
        return runs[0] if len(runs) < 2 else tuple(measurement(1.0, name=name, stopped=INTERRUPTED) for name in cases)

    monkeypatch.setattr(benchmark, "run", interrupted_at_batch_2)
    assert bench("--batch 1,2,3 -o b.json")[0] == 130
    assert [(row["batch"], row["stopped"]) for row in rows(tmp_path / "b.json", "networks")] == [(1, None), (2, INTERRUPTED)]
    assert {"small, plain, batch 2, after 1 samples: interrupted", "not measured: small batch 3"} <= notes(tmp_path / "b.json")


def test_a_budget_leaves_out_and_says_so(bench: Callable[[str], tuple[int, str, str]], tmp_path: Path) -> None:
    assert bench("--budget 0.001 --batch 1,2 -o b.json")[0] == 0
    found = rows(tmp_path / "b.json", "networks")
    assert [(row["samples_s"], row["stopped"]) for row in found] == [([], "the time budget was used up")] * 2
    assert "small, plain, batch 2: the time budget was used up" in notes(tmp_path / "b.json")


def test_what_would_not_fit_is_not_tried(bench: Callable[[str], tuple[int, str, str]], tmp_path: Path) -> None:
    assert bench("--batch 1,99999999 -o b.json")[0] == 0
    first, second = rows(tmp_path / "b.json", "networks")
    assert first["latency_s"] > 0
    assert second["error"].startswith(OUT_OF_MEMORY)
    assert [note for note in notes(tmp_path / "b.json") if "batch 99999999: out of memory" in note]


@pytest.mark.slow
def test_a_starved_process_ends_with_what_it_has(config: Path, tmp_path: Path) -> None:
    def starve() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))

    options = ["--config", str(config), *shlex.split("--size 32 --batch 1,300000 --threads 1 --min-time 0.01 -o b.json")]
    done = subprocess.run(
        [COMMAND, "bench", *options],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        preexec_fn=starve,
    )
    assert done.returncode == 0, done.stderr
    first, second = rows(tmp_path / "b.json", "networks")
    assert first["latency_s"] > 0
    assert second["error"].startswith(OUT_OF_MEMORY)
    assert "Traceback" not in done.stderr


def broken(mode: Mode, model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    if mode.fused:
        raise RuntimeError(f"no compiler for {dtype}")
    return build(mode, model, images, dtype)


def test_a_mode_that_fails_leaves_the_others(
    bench: Callable[[str], tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(benchmark.TOLERANCES, "float32", -1.0)
    assert bench("-o b.json")[0] == 1
    monkeypatch.setattr(benchmark, "build", broken)
    monkeypatch.setitem(benchmark.TOLERANCES, "float32", 1e-4)
    code, _, err = bench("--mode plain,fused -o b.json")
    assert code == 1
    plain, fused = rows(tmp_path / "b.json", "networks")
    assert plain["error"] is None
    assert plain["latency_s"] > 0
    assert fused["error"] == "no compiler for torch.float32"
    assert "Traceback" not in err


@pytest.mark.parametrize("mode", ["onnxruntime", "openvino"])
def test_a_mode_whose_library_is_missing_is_a_row_of_all_and_an_error_by_name(
    mode: str, bench: Callable[[str], tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"plain": MODES["plain"], mode: MODES[mode]}
    monkeypatch.setattr("mpvit_cli.commands.bench.MODES", known)
    monkeypatch.setattr(imports, "find_spec", lambda name: None if name == mode else find_spec(name))
    assert bench("--mode all -o b.json")[0] == 0
    plain, engine = rows(tmp_path / "b.json", "networks")
    assert plain["latency_s"] > 0
    assert engine["latency_s"] is None
    assert engine["stopped"] == f"{mode} is not installed: pip install 'mpvit[export]'"
    code, _, err = bench(f"--mode {mode}")
    assert code == 1
    assert f"{mode} is not installed" in err


@pytest.mark.parametrize(
    ("mode", "dtype", "said"),
    [
        ("onnxruntime", "bfloat16", "onnxruntime does not compute in bfloat16 on the CPU"),
        pytest.param(
            "openvino",
            "float16",
            "OpenVINO does not compute in float16 on this processor: it would",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_an_engine_does_not_compute_in_is_said(
    mode: str, dtype: str, said: str, bench: Callable[[str], tuple[int, str, str]], tmp_path: Path
) -> None:
    code = bench(f"--mode {mode} --dtype {dtype} -o b.json")[0]
    (row,) = rows(tmp_path / "b.json", "networks")
    if row["error"] is None:  # this processor does
        assert row["relative_difference"] <= 0.02
    else:
        assert code == 1
        assert row["error"].startswith(said)


@pytest.mark.slow
def test_engines_are_timed_beside_torch(bench: Callable[[str], tuple[int, str, str]], tmp_path: Path) -> None:
    assert bench("--mode plain,onnxruntime,openvino -o b.json -o b.md")[0] == 0
    found = rows(tmp_path / "b.json", "networks")
    assert [row["mode"] for row in found] == ["plain", "onnxruntime", "openvino"]
    assert len({len(row["samples_s"]) > 0 for row in found}) == 1
    for row in found[1:]:
        assert row["relative_difference"] <= 1e-5
        assert row["peak_bytes"] is None  # torch's allocator sees none of it, which is not none
        assert row["speedup_low"] <= row["speedup"] <= row["speedup_high"]
        assert row["share_of_roof"] > 0
    assert "| small | openvino | 2 |" in (tmp_path / "b.md").read_text()
    said = notes(tmp_path / "b.json")
    assert [note for note in said if note.startswith("onnxruntime, openvino: the plain network, exported for each batch")]


@pytest.mark.slow
def test_every_mode_runs(config: Path, tmp_path: Path) -> None:
    """In a process of its own, as torch's compiler leaves some behind."""
    done = run(
        "bench",
        "--config",
        str(config),
        *shlex.split(QUICK),
        "--mode",
        "all",
        "-o",
        str(tmp_path / "b.json"),
        command=(COMMAND,),
    )
    assert done.code == 0, done.err
    found = rows(tmp_path / "b.json", "networks")
    assert [row["mode"] for row in found] == list(MODES)
    assert all(row["relative_difference"] <= 1e-4 and len(row["samples_s"]) >= 5 for row in found)


FEW_GRAPHS = """
import torch._dynamo
torch._dynamo.config.recompile_limit = 1
torch._dynamo.config.fail_on_recompile_limit_hit = True
from mpvit_cli.main import main
main()
"""


@pytest.mark.slow
def test_every_batch_is_compiled_however_few_graphs_torch_keeps(config: Path, tmp_path: Path) -> None:
    """Beyond its limit torch runs a network as it is written, and its time would be given as compiled."""
    asked = ["bench", "--config", str(config), "--size", "32", "--min-time", "0.05", "--batch", "1,2", "--mode", "compile"]
    command = [sys.executable, "-c", FEW_GRAPHS, *asked, "-o", str(tmp_path / "b.json")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert all(row["samples_s"] for row in rows(tmp_path / "b.json", "networks"))


# ── on paper and on a terminal ──────────────────────────────────────────────────────────────────────────────────────


def results() -> Iterator[NetworkTime | LayerTime]:
    top = Ceilings(product=measurement(0.1), product_macs=10**10, copy=measurement(0.1), copy_bytes=10**9)
    for batch in (1, 8):
        for mode, factor in (("plain", 1.0), ("fused", 0.6)):
            timed = RooflinePoint(Work(10**9 * batch, 10**8 * batch), measurement(0.05 * factor * batch**0.9), top)
            yield NetworkTime(model="tiny", input_shape=(batch, 3, 8, 8), mode=mode, passes="forward", timed=timed)
    failed = RooflinePoint(Work(1, 1), measurement(error=OUT_OF_MEMORY), top)
    yield NetworkTime(model="tiny", input_shape=(99, 3, 8, 8), mode="plain", passes="forward", timed=failed)


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
def test_the_roofline_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"roof.{suffix}"
    save_figure(roofline_figure(list(results())), path)
    assert path.stat().st_size > 5000


def test_the_roofline_names_what_it_shows() -> None:
    figure = roofline_figure(list(results()))
    (axes,), (legend,) = figure.axes, figure.legends
    assert [text.get_text() for text in axes.texts] == ["tiny"]
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["matrix product, 100 GMAC/s", "copy, 10 GB/s", "plain", "fused", "batch 1", "batch 8"]
    roofline_figure([])


@pytest.mark.parametrize("layers", [False, True])
def test_no_name_on_the_roofline_lies_over_another_or_over_a_point(*, layers: bool) -> None:
    points: list[NetworkTime | LayerTime] = []
    for number in range(6):
        for result in results():
            timed = replace(result.timed, work=replace(result.timed.work, macs=10**9 + number * 10**7))
            work: dict[str, Any] = {"model": f"network{number}", "input_shape": result.input_shape, "timed": timed}
            layer = LayerTime(part="stage 3 attention.qkv", kind="linear", layer_input_shape=(1, 4, 8), calls=1, **work)
            points.append(layer if layers else NetworkTime(mode="plain", passes="forward", **work))
    figure = roofline_figure(points)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts if isinstance(text, Annotation)]
    places = [place for marks in axes.collections for place in axes.transData.transform(np.asarray(marks.get_offsets()))]
    assert len(boxes) == (8 if layers else 6)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert not [place for place in places for box in boxes if box.contains(*place)]


@pytest.mark.slow
def test_the_table_fits_80_columns(config: Path) -> None:
    options = f"{QUICK} --mode plain,fused --no-progress".replace("--no-progress", "")
    outcome = run_on_terminal("--no-progress", "bench", "--config", str(config), *shlex.split(options), columns=80)
    lines = shown(outcome.out)
    header = next(index for index, line in enumerate(lines) if line.startswith("Model"))
    assert outcome.code == 0
    assert all(len(line) <= 80 for line in lines[: header + 4])
    assert "speed-up" in " ".join(lines[header : header + 2])


def test_help_does_not_import_torch() -> None:
    program = "import sys; from mpvit_cli.main import main; main(); print('torch' in sys.modules)"
    outcome = run("-c", program, "bench", "--help", command=(sys.executable,))
    assert outcome.code == 0
    assert outcome.out.endswith("False\n")

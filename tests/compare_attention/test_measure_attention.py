"""`mpvit compare-attn --measure`: what is kept, left out and said; growth and crossovers from samples of known shape."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chosen import chosen

from mpvit.attention import KINDS, Kind, Sizes, get_kind, softmax
from mpvit.compare_attention.costs import attention_cost
from mpvit.compare_attention.fits import crossings, growths
from mpvit.compare_attention.measure import MIN_TIME_S, measure_attention
from mpvit.compare_attention.results import AttentionPoint
from mpvit.errors import CheckError
from mpvit.measurement import Measurement
from mpvit.measurement.options import TimingOptions
from mpvit.plots import save_figure
from mpvit.plots.attention import attention_figure
from mpvit_cli.main import main

SIZES = Sizes(1, 8, 8, 56, 56)
QUICK = TimingOptions(min_time_s=MIN_TIME_S)


def point(kind: str, tokens: int, seconds: float) -> AttentionPoint:
    cost = attention_cost(kind, SIZES._replace(height=1, width=tokens))
    samples = tuple(seconds * factor for factor in (0.98, 1.0, 1.0, 1.01, 1.03))
    measurement = Measurement(name=kind, samples_s=samples, device="cpu", threads=1, peak_bytes=4 * cost.extra_elements)
    return AttentionPoint(cost, measurement)


TOKENS = [2**n for n in range(4, 15)]
CURVES = [
    *(point("softmax", n, 1e-5 + 1e-9 * n**2) for n in TOKENS),  # overhead, then quadratic
    *(point("factorized", n, 4e-5 + 1e-7 * n) for n in TOKENS),  # more overhead, then linear
]


def test_growth_is_taken_beyond_the_overhead() -> None:
    fits = {fit.kind: fit for fit in growths(CURVES)}
    for kind, exponent in (("softmax", 2), ("factorized", 1)):
        fit = fits[kind]
        assert fit.exponent == pytest.approx(exponent, abs=0.05)
        assert fit.low is not None
        assert fit.high is not None
        assert fit.low <= exponent * 1.02
        assert fit.high >= exponent * 0.95
        assert fit.predicted == pytest.approx(exponent)
        assert fit.tokens[0] > TOKENS[0]


def test_the_crossover_is_where_the_curves_meet() -> None:
    (crossing,) = crossings(CURVES)
    meeting = next(n for n in range(1, 20_000) if 1e-5 + 1e-9 * n**2 >= 4e-5 + 1e-7 * n)
    assert crossing.tokens == pytest.approx(meeting, rel=0.05)
    assert crossing.low is not None
    assert crossing.high is not None
    assert crossing.low <= meeting * 1.02
    assert crossing.high >= meeting * 0.98
    assert crossing.predicted_tokens == 8
    assert not crossing.always


def test_a_kind_that_is_always_faster_says_so() -> None:
    curves = [*(point("softmax", n, 1e-9 * n**2) for n in TOKENS), *(point("hydra", n, 1e-10 * n) for n in TOKENS)]
    (crossing,) = crossings(curves)
    assert (crossing.tokens, crossing.always) == (None, True)


@pytest.mark.slow
def test_every_kind_is_measured_with_its_memory() -> None:
    points = list(measure_attention(list(KINDS), SIZES, [256], replace(QUICK, budget_s=60)))
    assert {(p.measurement.name, p.cost.tokens) for p in points} == {(kind, 256) for kind in KINDS}
    assert not [p.measurement.error for p in points if p.measurement.error]
    peaks = {(p.measurement.name, p.cost.tokens): p.measurement.peak_bytes for p in points}
    for (kind, tokens), peak in peaks.items():
        assert peak is not None
        if kind == "softmax":  # two matrices of scores at once at least: before and after the exponential
            assert peak >= 2 * 4 * 8 * tokens**2
        if kind in ("factorized", "efficient", "sdpa"):
            assert peak < 4 * 4 * tokens * 64 + 4 * 8 * 8 * 8 + 2**18


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_backward_and_half_precision(dtype: str) -> None:
    options = replace(QUICK, budget_s=20, dtype=dtype, backward=True)
    (measured,) = measure_attention(["factorized"], SIZES, [32], options)
    assert measured.measurement.dtype == dtype
    assert len(measured.measurement.samples_s) >= 5


def test_what_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*arguments: object) -> torch.Tensor:
        output: torch.Tensor = softmax.attend(*arguments)  # type: ignore[arg-type]
        return output * (1.01 if output.dtype == torch.float32 else 1)

    broken: Kind = replace(get_kind("softmax")[0], attend=wrong)
    monkeypatch.setattr(softmax, "KIND", broken)
    with pytest.raises(CheckError, match=r"against float64 is 1\.0e-02"):
        list(measure_attention(["softmax"], SIZES, [16], QUICK))


def test_a_kind_that_cannot_fit_is_not_tried_again_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpvit.measurement.machine.free_bytes", lambda _: 10_000_000)
    points = list(measure_attention(["softmax", "factorized"], SIZES, [64, 1024, 2048], replace(QUICK, budget_s=30)))
    by_kind = {kind: [p.measurement for p in points if p.measurement.name == kind] for kind in ("softmax", "factorized")}
    assert [bool(m.samples_s) for m in by_kind["softmax"]] == [True, False, False]
    assert by_kind["softmax"][1].error == by_kind["softmax"][2].error
    assert "out of memory: needs 0.1 GB" in by_kind["softmax"][1].error
    assert all(m.samples_s for m in by_kind["factorized"])


def test_a_slow_kind_leaves_the_budget_to_the_others() -> None:
    points = list(measure_attention(["softmax", "factorized"], SIZES, [64, 4096], replace(QUICK, budget_s=0.2)))
    softmax_at_4096 = next(p for p in points if p.measurement.name == "softmax" and p.cost.tokens == 4096)
    assert not softmax_at_4096.measurement.samples_s
    assert "budget" in softmax_at_4096.measurement.stopped


@pytest.mark.parametrize("suffix", chosen([".svg", ".png", ".pdf"], ".svg"))
def test_the_figure_has_three_panels_with_labels_beside_the_lines(tmp_path: Path, suffix: str) -> None:
    figure = attention_figure([p.cost for p in CURVES], CURVES)
    assert len(figure.axes) == 2 + 1
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    labels = [text.get_text() for text in figure.axes[1].texts]
    assert any(label.startswith("softmax (full), N$^{2.0") for label in labels)
    save_figure(figure, tmp_path / f"growth{suffix}")
    assert (tmp_path / f"growth{suffix}").stat().st_size > 5000


STARVED = """
import resource, torch
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 400_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""


def start(*words: str, before: str = "") -> subprocess.Popen[str]:
    code = f"{before}\nimport sys\nfrom mpvit_cli.main import main\nsys.exit(main())"
    command = [sys.executable, "-c", code, "compare-attn", "--measure", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_a_memory_starved_run_ends_with_what_it_has() -> None:
    words = ("--kind", "softmax,factorized", "--sweep", "1024..3136", "--budget", "60", "--format", "json")
    process = start(*words, before=STARVED)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    rows = [row for row in json.loads(out)["results"] if row["table"] == "points"]
    starved = [row for row in rows if (row["error"] or "").startswith("out of memory")]
    assert {row["kind"] for row in starved} == {"softmax"}
    assert all(row["latency_s"] for row in rows if row["kind"] == "factorized")


def test_an_interrupted_run_keeps_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: object) -> torch.Tensor:
        if isinstance(arguments[3], Sizes) and arguments[3].tokens > 200:
            raise KeyboardInterrupt
        return softmax.attend(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(softmax, "KIND", replace(get_kind("softmax")[0], attend=interrupted))
    out = tmp_path / "points.json"
    words = ["--measure", "--kind", "factorized,softmax", "--sweep", "64..512", "-o", str(out)]
    monkeypatch.setattr("sys.argv", ["mpvit", "compare-attn", *words])
    assert main() == 130
    assert "Traceback" not in capsys.readouterr().err
    rows = [row for row in json.loads(out.read_text())["results"] if row["table"] == "points"]
    assert {row["tokens"] for row in rows if row["latency_s"]} == {64, 128}

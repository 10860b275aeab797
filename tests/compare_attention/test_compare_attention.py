"""`mpvit compare-attn` in closed form and in half precision: the figures of the papers, and what a person reads."""

import json
import re
import subprocess
import sys
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpvit import VARIANTS
from mpvit.attention import KINDS, Sizes
from mpvit.compare_attention.costs import attention_cost, crossover, stage_sizes, stage_tokens, sweep_tokens
from mpvit.compare_attention.numerics import implied_maps, rounding_errors
from mpvit.tables.number_text import ratio_text
from mpvit_cli.main import main


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["mpvit", "compare-attn", *words])
    code = main()
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_stage_2_of_xsmall() -> None:
    cost = attention_cost("factorized", stage_sizes(VARIANTS["xsmall"].config, 2, 3136))
    assert (cost.macs, cost.softmax_macs, cost.ratio) == (3_211_264, 1_258_815_488, 392)
    assert cost.projection_macs == 4 * 3136 * 64**2


def test_full_attention_is_the_cheaper_one_in_stage_5_of_base() -> None:
    (at,) = (at for at in stage_tokens(VARIANTS["base"].config) if (at.stage, at.size) == (5, (224, 224)))
    assert (at.tokens, at.dim // at.heads) == (49, 60)
    assert at.costs[0].ratio == pytest.approx(0.82, abs=0.005)


@pytest.mark.parametrize(
    ("variant", "head_dims"),
    [("tiny", (8, 12, 22, 27)), ("xsmall", (8, 16, 24, 32)), ("small", (8, 16, 27, 36)), ("base", (16, 28, 46, 60))],
)
def test_the_tokens_that_the_variants_meet(variant: str, head_dims: tuple[int, ...]) -> None:
    met = stage_tokens(VARIANTS[variant].config)
    tokens = {size: tuple(at.tokens for at in met if at.size == size) for size in ((224, 224), (800, 1280))}
    assert tokens == {(224, 224): (3136, 784, 196, 49), (800, 1280): (64000, 16000, 4000, 1000)}
    assert tuple(at.dim // at.heads for at in met[:4]) == head_dims


@given(st.integers(1, 8), st.integers(1, 64))
def test_factorized_attention_crosses_full_attention_at_d(heads: int, head_dim: int) -> None:
    sizes = Sizes(1, heads, head_dim, 1, 1)
    assert crossover("factorized", sizes) == head_dim
    at = sizes._replace(height=head_dim)
    assert attention_cost("factorized", at).macs == attention_cost("softmax", at).macs
    if heads == 8:
        assert crossover("factorized_crpe", sizes) == head_dim + 15


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("softmax", None),
        ("sdpa", None),
        ("linear", 8.5),  # d + 1/2
        ("hydra", 1),
        ("linformer:128", 256),  # 2k
        ("window:7", 49),  # one window
        ("window:4", 16),
        ("spatial_reduction:8", float(Fraction(64, 1) / (1 - Fraction(1, 64)))),  # C / (1 - 1/R²)
    ],
)
def test_where_the_other_kinds_cross(kind: str, expected: float | None) -> None:
    assert crossover(kind, Sizes(1, 8, 8, 56, 56)) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_the_growth_exponent_is_that_of_the_formula(kind: str) -> None:
    growth = attention_cost(kind, Sizes(1, 8, 8, 1024, 1024)).growth
    assert growth == pytest.approx(2 if kind in ("softmax", "sdpa", "spatial_reduction") else 1, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((8, 1, 16), [1, 2, 4, 8, 16]),
        ((50, 40, 70), [40, 50, 64, 70]),
        ((5, 6, 6), [6]),
        ((1,), [1, 2, 4, 8, 16, 32, 64]),
    ],
)
def test_a_sweep_is_powers_of_two_with_its_ends_and_center(arguments: tuple[int, ...], expected: list[int]) -> None:
    assert sweep_tokens(*arguments) == expected


@pytest.mark.parametrize(("ratio", "text"), [(392, "392×"), (0.8167, "0.82×"), (1.53, "1.53×"), (1424.69, "1 424.7×")])
def test_ratios_as_people_read_them(ratio: float, text: str) -> None:
    assert ratio_text(ratio) == text


def test_the_default_answer_has_the_figures_that_people_look_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(monkeypatch, capsys, "--tokens", "3136")
    assert code == 0
    for figure in ("3 211 264", "1 258 815 488", "392×", "800×1280", "64 000"):
        assert figure in out
    assert "The saving is N/d = 392×" in err
    assert "N* = d = 8; with CRPE and 8 heads at d + 15 = 23" in err


def test_json_rows_have_every_kind_at_full_precision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run(monkeypatch, capsys, "--format", "json")
    rows = json.loads(out)["results"]
    kinds = {row["kind"].partition(":")[0] for row in rows if row["table"] == "kinds"}
    assert kinds == set(KINDS)
    assert {row["table"] for row in rows} == {"kinds", "sweep", "stages"}
    assert all(isinstance(row["macs"], int) for row in rows)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tokens", "0"], "tokens = 0: must be from 1"),
        (["--tokens", "9999999999"], "must be at most 999999999"),
        (["--tokens", "many"], "Invalid value for '--tokens': 'many' must be a whole number"),
        (["--stage", "1"], "stage 1: must be from 2 to 5"),
        (["--stage", "6"], "stage 6: must be from 2 to 5"),
        (["--variant", "xsmal"], "unknown variant 'xsmal'"),
        (["--dim", "64"], "give both or neither"),
        (["--dim", "65", "--heads", "8"], "dim = 65"),
        (["--dim", "0", "--heads", "0"], "dim"),
        (["--kind", "softmx"], "unknown attention 'softmx'"),
        (["--kind", "window:0"], "the window side M must be"),
        (["--sweep", "49-100"], "range '49-100'"),
        (["--sweep", "100..49"], "range '100..49'"),
        (["--sweep", "0..49"], "range '0..49'"),
        (["--format", "yaml"], "unknown format 'yaml'"),
    ],
)
def test_bad_input_gets_one_line_and_a_hint(
    words: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(monkeypatch, capsys, *words)
    lines = err.splitlines()
    assert (code, out) == (2, "")
    assert complaint in lines[0]
    assert [line.partition(":")[0] for line in lines] in (["Error"], ["Error", "Hint"])


def test_the_answer_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; sys.argv = ['mpvit', 'compare-attn', '--tokens', '3136']\n"
        "from mpvit_cli.main import main; main()\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'einops'} & sys.modules.keys()))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_float32_is_near_float64_and_half_precision_is_as_near_as_its_digits() -> None:
    epsilon = {"float32": 2**-23, "bfloat16": 2**-8, "float16": 2**-11}
    for error in rounding_errors(list(KINDS), Sizes(1, 2, 8, 1, 1), [16, 256]):
        assert error.relative_error is not None
        assert error.relative_error < 16 * epsilon[error.dtype]
        if error.dtype != "float32":
            assert error.relative_error > epsilon[error.dtype] / 16


def test_what_the_implied_maps_are_like() -> None:
    maps = {implied.kind: implied for implied in implied_maps(Sizes(1, 8, 8, 56, 56))}
    assert (maps["softmax"].rank, maps["factorized"].rank, maps["efficient"].rank) == (196, 8, 8)
    assert maps["softmax"].negative_share == maps["efficient"].negative_share == maps["linear"].negative_share == 0
    assert 0.3 < maps["factorized"].negative_share < 0.7
    for kind in ("softmax", "efficient", "linear"):
        assert [maps[kind].row_sum_min, maps[kind].row_sum_max] == pytest.approx([1, 1])
    assert maps["factorized"].row_sum_min < 0 < maps["factorized"].row_sum_max


def test_numerics_prints_both_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "--numerics", "--kind", "factorized,softmax", "--sweep", "16..64")
    assert code == 0
    assert len(re.findall(r"bfloat16 +\d\.\de-\d\d", out)) == 2
    assert "Rank" in out

"""``mpvit flops`` as a person uses it: every option, every format, and everything that can be mistyped."""

import csv
import io
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commandline import Outcome, call, rows, run
from published import PUBLISHED, grouped

from mpvit import VARIANTS, build_model, load_config
from mpvit.counting import COUNTERS, CUTS, is_installed
from mpvit.render import FORMATS
from mpvit.tools import Tool


def flops(*arguments: str) -> Outcome:
    return call("flops", *arguments)


def totals(found: list[dict[str, Any]]) -> dict[str, tuple[int, int, int]]:
    return {row["model"]: (row["params"], row["macs"], row["activations"]) for row in found if row["part"] == "total"}


# ── what is counted ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_by_default_every_variant_stands_beside_its_published_figure_with_a_mark() -> None:
    code, out, err = flops()
    assert code == 0
    title, header, _, *lines = out.splitlines()
    assert title == "input 1×3×224×224, counter analytic, convention fvcore"
    assert re.split(" {2,}", header) == ["Model", "Params", "MACs", "FLOPs = 2 MACs", "Activations", "Published MACs"]
    for (model, (params, macs, activations)), line in zip(PUBLISHED.items(), lines, strict=True):
        figures = [grouped(number) for number in (params, macs, 2 * macs, activations)]
        assert re.split(" {2,}", line) == [model, *figures, grouped(macs) + "✓"]
    assert "1 MAC (multiply-add) = 2 FLOPs" in err


@pytest.mark.parametrize(
    ("arguments", "models"),
    [
        ([], ["tiny", "xsmall", "small", "base"]),
        (["--variant", "all"], ["tiny", "xsmall", "small", "base"]),
        (["--variant", "small"], ["small"]),
        (["--variant", "base", "--variant", "tiny"], ["base", "tiny"]),
        (["--variant", "base,tiny"], ["base", "tiny"]),
        (["--variant", "tiny", "--variant", "all"], ["tiny", "xsmall", "small", "base"]),
    ],
)
def test_which_variants(arguments: list[str], models: list[str]) -> None:
    assert totals(rows(flops("--format", "json", *arguments))) == {model: PUBLISHED[model] for model in models}
    assert [row["model"] for row in rows(flops("--format", "json", *arguments))] == models


@pytest.mark.parametrize("by", CUTS)
@pytest.mark.parametrize("variant", ["tiny", "base"])
def test_parts_sum_to_the_published_integers(variant: str, by: str) -> None:
    found = rows(flops("--variant", variant, "--by", by, "--format", "json"))
    parts = [row for row in found if row["part"] != "total"] or found
    assert tuple(sum(row[figure] for row in parts) for figure in ("params", "macs", "activations")) == PUBLISHED[variant]
    assert totals(found) == {variant: PUBLISHED[variant]}
    assert all(sum(row["by_kind"].values()) == row["macs"] and row["flops"] == 2 * row["macs"] for row in found)
    names = [row["part"] for row in found]
    assert len(set(names)) == len(names)


def test_the_stem_is_what_a_hand_counts() -> None:
    """Two 3x3 convolutions of stride 2, 3 -> 32 -> 64 channels, and their norms at 2 an element."""
    stem = 32 * 27 * 112**2 + 2 * 32 * 112**2 + 64 * 9 * 32 * 56**2 + 2 * 64 * 56**2
    table = flops("--variant", "xsmall", "--by", "stage").out
    assert re.search(rf"^stem  +19 488  +{grouped(stem)}  ", table, re.MULTILINE)
    assert table.splitlines()[-1].startswith("total    10 573 448  2 971 396 560      100.0")


def test_a_layer_has_its_kind_shapes_and_calls() -> None:
    layers = {row["part"]: row for row in rows(flops("--variant", "small", "--by", "layer", "--format", "json"))}
    shared = layers["stages.2.paths.0.cpe.conv"]
    assert (shared["kind"], shared["calls"], shared["params"]) == ("conv", 6, 216 * 9 + 216)
    assert shared["layer_input_shape"] == shared["layer_output_shape"] == [1, 216, 14, 14]


@pytest.mark.parametrize(
    ("convention", "macs"), [("fvcore", 1_654_163_812), ("exact", 1_654_164_352), ("matmul", 1_635_527_496)]
)
def test_conventions(convention: str, macs: int) -> None:
    (row,) = rows(flops("--variant", "tiny", "--convention", convention, "--format", "json"))
    assert (row["convention"], row["macs"], row["flops"]) == (convention, macs, 2 * macs)
    assert row["agrees_with_published"] is (True if convention == "fvcore" else None)


@pytest.mark.parametrize(
    ("arguments", "shape", "giga_macs"),
    [  # the paper's detection and segmentation inputs
        (["--size", "800x1280"], [1, 3, 800, 1280], 60.64),
        (["--size", "512X2048"], [1, 3, 512, 2048], 62.09),
        (["--size", "224", "--batch", "5"], [5, 3, 224, 224], 5 * 2.971402752),
    ],
)
def test_sizes_and_batches(arguments: list[str], shape: list[int], giga_macs: float) -> None:
    (row,) = rows(flops("--variant", "xsmall", "--convention", "exact", "--format", "json", *arguments))
    assert row["input_shape"] == shape
    assert row["macs"] / 1e9 == pytest.approx(giga_macs, abs=0.005)
    assert row["published"] is None


def test_every_counter_says_its_convention_and_what_it_passes_over() -> None:
    """At a small size: tests/counting has the published integers of the counters."""
    outcome = flops("--variant", "tiny", "--size", "64", "--counter", "all", "--format", "json")
    assert outcome.code == 0
    found = {row["counter"]: row for row in rows(outcome)}
    assert list(found) == list(COUNTERS)
    params, macs = PUBLISHED["tiny"][0], found["analytic"]["macs"]
    missing = {name for name in found if not is_installed(name)}
    assert {name for name, row in found.items() if row["error"]} == missing  # which is no failure: nobody named them
    assert {name for name, row in found.items() if row["params"] != params} - missing == {"torchinfo"}
    own = {"analytic": "fvcore", "torch": "matmul"}
    assert {name: row["convention"] for name, row in found.items()} == {name: own.get(name, name) for name in COUNTERS}
    assert found["fvcore"]["macs"] == found["fvcore"]["closed_form_macs"] == macs
    assert found["torch"]["macs"] == found["torch"]["closed_form_macs"]
    assert found["analytic"]["activations"] == found["fvcore"]["activations"]
    assert found["torch"]["activations"] is found["thop"]["activations"] is None
    assert found["thop"]["macs"] < macs  # it sees no einsum
    assert "matmul" in found["thop"]["not_counted"]
    assert all(found[name]["not_counted"] for name in ("analytic", "torch", "fvcore", "thop", "torchinfo"))


def test_a_tool_that_is_named_and_not_installed_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tool, "installed_version", None)
    outcome = flops("--variant", "tiny", "--size", "32", "--counter", "thop")
    assert outcome.code == 1
    assert "tiny: thop is not installed" in outcome.err
    assert flops("--variant", "tiny", "--size", "32", "--counter", "all").code == 0


def test_a_counter_that_fails_says_why_and_the_others_still_count() -> None:
    arguments = ["--variant", "tiny", "--size", "100000", "--counter", "analytic", "--counter", "fvcore"]
    outcome = flops(*arguments, "--format", "json")
    analytic, fvcore = rows(outcome, code=1)
    assert analytic["macs"] > 10**14
    assert (fvcore["params"], fvcore["macs"], fvcore["flops"]) == (None, None, None)
    assert "GB are free" in fvcore["error"]
    code, out, err = flops(*arguments)
    assert code == 1
    assert "–" in out
    assert "tiny: fvcore failed: its trace of (1, 3, 100000, 100000) holds about" in err


# ── networks of your own ────────────────────────────────────────────────────────────────────────────────────────────

STAGE = "[[stages]]\npaths = 2\nlayers = 3\ndim = 24\nheads = 4\nmlp_ratio = 2\n"
NETWORK = (
    "in_channels = 1\nnum_classes = 10\n" + STAGE + STAGE.replace("dim = 24", "dim = 30").replace("heads = 4", "heads = 3")
)


def test_a_network_of_your_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(NETWORK)
    found = rows(flops("--config", str(file), "--size", "45x70", "--counter", "analytic,torch,fvcore", "--format", "json"))
    assert {row["params"] for row in found} == {sum(p.numel() for p in build_model(load_config(file)).parameters())}
    assert {(row["model"], tuple(row["input_shape"]), row["published"]) for row in found} == {("mine", (1, 1, 45, 70), None)}
    analytic, torch, fvcore = found
    assert analytic["macs"] == fvcore["macs"]
    assert torch["macs"] == torch["closed_form_macs"]


def test_a_published_network_under_another_name_is_still_held_against_what_is_published(tmp_path: Path) -> None:
    stages = [(2, 1, 64), (3, 2, 128), (3, 4, 192), (3, 1, 256)]  # Table 1 of the paper, XS
    text = "".join(f"[[stages]]\npaths={p}\nlayers={n}\ndim={dim}\nheads=8\nmlp_ratio=4\n" for p, n, dim in stages)
    (tmp_path / "mine.toml").write_text(text)
    outcome = flops("--config", str(tmp_path / "mine.toml"), "--variant", "tiny", "--check", "--format", "json")
    assert outcome.code == 0
    assert totals(rows(outcome)) == {"tiny": PUBLISHED["tiny"], "mine": PUBLISHED["xsmall"]}


# ── formats ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_json_has_the_keys_that_it_promises() -> None:
    content = json.loads(flops("--variant", "tiny", "--format", "json").out)
    assert content.keys() >= {"schema_version", "command", "environment", "results"}
    assert (content["schema_version"], content["command"]) == (1, "flops")
    assert content["environment"].keys() >= {"mpvit", "python", "torch", "device", "threads", "dtype"}
    (row,) = content["results"]
    promised = "model input_shape counter convention params macs flops activations by_kind not_counted published"
    assert row.keys() >= set(promised.split())
    params, macs, activations = PUBLISHED["tiny"]
    assert (row["model"], row["input_shape"], row["counter"]) == ("tiny", [1, 3, 224, 224], "analytic")
    assert row["published"] == {"params": params, "macs": macs, "activations": activations}
    assert row["not_counted"].keys() >= {"softmax", "gelu", "add"}


@pytest.mark.parametrize("by", CUTS)
def test_csv_reads_back_as_integers(by: str) -> None:
    text = flops("--variant", "tiny", "--by", by, "--format", "csv").out
    found = list(csv.DictReader(io.StringIO(text), strict=True))
    for row in found:
        kinds = [int(value) for name, value in row.items() if name.startswith("by_kind.")]
        assert sum(kinds) == int(row["macs"]) == int(row["flops"]) / 2
        assert None not in row  # no line has more cells than the header
    last = found[-1]
    assert (int(last["params"]), int(last["macs"]), int(last["activations"])) == PUBLISHED["tiny"]
    assert last["input_shape"] == "1x3x224x224"


@pytest.mark.parametrize("by", CUTS)
def test_markdown_has_the_same_columns_in_each_row(by: str) -> None:
    lines = [line for line in flops("--variant", "tiny", "--by", by, "--format", "markdown").out.splitlines() if "|" in line]
    assert len({line.count("|") for line in lines}) == 1
    assert set(lines[1]) == set("| :-")
    assert " 1 654 163 812 " in lines[-1]


ODD_NAME = r"my_net & co 100% #1 {a} ~^$.toml"


@pytest.mark.parametrize("by", CUTS)
def test_latex_is_well_formed(by: str, tmp_path: Path) -> None:
    (tmp_path / ODD_NAME).write_text(NETWORK)
    text = flops("--variant", "tiny", "--config", str(tmp_path / ODD_NAME), "--by", by, "--format", "latex").out
    code = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[&%$#_{}]", "", code)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not set(bare) & set("%#_^~")
    assert code.isascii()
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}\n(.*?)\\end\{tabular\}", bare, re.DOTALL)
    assert len(tables) == bare.count(r"\begin") == bare.count(r"\end") == (1 if by == "total" else 2)
    for alignment, body in tables:
        lines = [line for line in body.splitlines() if line.strip() not in (r"\toprule", r"\midrule", r"\bottomrule", "")]
        assert all(line.endswith(r" \\") and line.count("&") == len(alignment) - 1 for line in lines)
    assert r"1\,654\,163\,812" in code


# ── a check ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_check_that_holds_changes_nothing_but_the_exit_code() -> None:
    assert flops("--check") == flops()
    assert flops("--check").code == 0


@pytest.mark.parametrize("figure", ["params", "macs", "activations"])
def test_a_check_that_does_not_hold(figure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small = VARIANTS["small"]
    other = getattr(small.published, figure) + 1
    monkeypatch.setitem(VARIANTS, "small", replace(small, published=replace(small.published, **{figure: other})))
    code, out, err = flops("--check")
    assert code == 3
    assert [line[-1] for line in out.splitlines()[3:]] == ["✓", "✓", "✗", "✓"]
    (error,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert error.startswith("Error: small: analytic counts 22892400 parameters, 4799650824 MACs and 30601880 activations")
    assert str(other) in error
    assert flops().code == 0  # nobody asked


@pytest.mark.parametrize(
    "arguments", [["--size", "256"], ["--batch", "2"], ["--convention", "exact"], ["--counter", "thop", "--variant", "tiny"]]
)
def test_a_check_of_what_is_not_published_is_wrong_usage(arguments: list[str]) -> None:
    code, _, err = flops("--check", *arguments)
    assert code == 2
    assert err.splitlines()[-2].startswith("Error: nothing is published to compare these counts with")
    assert err.splitlines()[-1].startswith("Hint: published are the four variants at 224x224")


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "name", "form"),
    [
        ([], "costs.json", "json"),
        ([], "costs.csv", "csv"),
        ([], "costs.md", "markdown"),
        ([], "costs.tex", "latex"),
        ([], "costs.txt", "table"),
        ([], "costs", "table"),
        (["--format", "csv"], "costs.json", "csv"),
    ],
)
def test_a_file_holds_what_the_terminal_would_show(arguments: list[str], name: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / name
    code, out, err = flops(*arguments, "-o", str(path))
    assert (code, out) == (0, "")
    assert f"wrote {path}" in err
    assert path.read_text(encoding="utf-8") == flops("--format", form).out
    assert list(tmp_path.iterdir()) == [path]


def assert_one_error(outcome: Outcome, code: int, named: str) -> None:
    """One line with the value, at most one with the remedy, no answer."""
    error, *hint = outcome.err.splitlines()
    assert (outcome.code, outcome.out) == (code, "")
    assert error.startswith("Error: ")
    assert named in error
    assert len(hint) <= 1
    assert all(line.startswith("Hint: ") and len(line) > len("Hint: ") for line in hint)


@pytest.mark.parametrize(
    ("target", "reason"),
    [("folder", "it is a folder"), ("missing/costs.md", "No such file or directory"), ("file/costs.md", "Not a directory")],
)
@pytest.mark.parametrize("form", FORMATS)
def test_where_nothing_can_be_written(form: str, target: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    outcome = flops("--format", form, "-o", str(tmp_path / target))
    assert_one_error(outcome, 1, f"{target}': {reason}")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


@needs_full
def test_a_full_device() -> None:
    assert_one_error(flops("-o", str(FULL)), 1, "'/dev/full': No space left on device")


@needs_full
@pytest.mark.parametrize("arguments", [["flops"], ["flops", "--by", "layer", "--format", "json"], ["--help"], ["--version"]])
def test_standard_output_on_a_full_device(arguments: list[str]) -> None:
    outcome = run("-c", 'mpvit "$@" >/dev/full', "sh", *arguments, command=("sh",), variables={"PATH": search_path()})
    assert_one_error(outcome, 1, "cannot write to standard output: No space left on device")


def search_path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


SMALL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
from mpvit_cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("old", [b"what was here before\n", None])
def test_a_full_disk_leaves_what_was_there(old: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    if old:
        path.write_bytes(old)
    outcome = run("flops", "-o", str(path), command=(sys.executable, "-c", SMALL_DISK))
    assert_one_error(outcome, 1, "costs.json': File too large")
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == ({"costs.json": old} if old else {})


# ── what can be mistyped ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "named", "hint"),
    [
        (["--variant", "xsmal"], "unknown variant 'xsmal'", "did you mean 'xsmall'?"),
        (["--variant", "Base"], "unknown variant 'Base'", "did you mean 'base'?"),
        (["--variant", ""], "unknown variant ''", ""),
        (["--variant", "tiny,,base"], "unknown variant ''", ""),
        (["--variant", "tiny\nError: x"], "unknown variant 'tiny", ""),
        (["--size", ""], "--size ''", "--size 224"),
        (["--size", "0"], "--size '0'", ""),
        (["--size", "-1"], "--size '-1'", "--size 224"),
        (["--size", "224x0"], "--size '224x0'", ""),
        (["--size", "1e3"], "--size '1e3'", "--size 224"),
        (["--size", "22.4"], "--size '22.4'", "--size 224"),
        (["--size", "224x"], "--size '224x'", "--size 224"),
        (["--size", "axb"], "--size 'axb'", "--size 224"),
        (["--size", "1x2x3"], "--size '1x2x3'", "--size 224"),
        (["--size", "٢٢٤"], "--size '٢٢٤'", "--size 224"),
        (["--size", "1234567890"], "--size '1234567890'", ""),
        (["--batch", "0"], "batch = 0", ""),
        (["--batch", "-3"], "batch = -3", ""),
        (["--batch", "two"], "'--batch': 'two'", "mpvit flops --help"),
        (["--batch", "1.5"], "'--batch': '1.5'", "mpvit flops --help"),
        (["--batch", "9" * 400], "'--batch': '999", "mpvit flops --help"),
        (["--counter", "fvcor"], "unknown counter 'fvcor'", "did you mean 'fvcore'?"),
        (["--convention", "exakt"], "unknown convention 'exakt'", "did you mean 'exact'?"),
        (["--convention", "exact", "--counter", "torch"], "convention 'exact': the counter torch", "analytic"),
        (["--format", "jsn"], "unknown format 'jsn'", "did you mean 'json'?"),
        (["--by", "stages"], "unknown part 'stages'", "did you mean 'stage'?"),
        (["--by", "layer", "--counter", "thop"], "--by layer with --counter thop", ""),
        (["--attention", "sofmax"], "'sofmax'", "'softmax'"),
        (["--config", "missing.toml"], "cannot read missing.toml: No such file", "TOML"),
        (["--config", "/"], "cannot read /: Is a directory", "TOML"),
        (["--sizes", "224"], "--sizes", "mpvit flops --help"),
        (["--size"], "'--size' requires an argument", "mpvit flops --help"),
        (["-o"], "'-o' requires an argument", "mpvit flops --help"),
        (["tiny"], "unexpected extra argument(s) (tiny)", "mpvit flops --help"),
    ],
)
def test_a_wrong_option_is_one_line_that_names_it(arguments: list[str], named: str, hint: str) -> None:
    outcome = flops(*arguments)
    assert_one_error(outcome, 2, named)
    assert hint in outcome.err.partition("Hint: ")[2]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "not UTF-8 text"),
        (b"paths, layers\n2, 3\n", "is not TOML"),
        (b"", "lacks 'stages'"),
        (b"num_classes = 10\n", "lacks 'stages'"),
        (b"stages = []\n", "stages = ()"),
        (b"stages = 4\n", "stages = 4"),
        (b"stages = [4]\n", "stages[0] = 4"),
        (NETWORK.replace("dim = 30", "dim = 31").encode(), "stages[1].dim = 31: must be divisible by heads = 3"),
        (
            NETWORK.replace("dim = 24", "dim = 23").replace("heads = 4", "heads = 1").encode(),
            "stages[0].dim = 23: must be even",
        ),
        (NETWORK.replace("layers", "depth").encode(), "unknown field of stages[0] 'depth'"),
        (NETWORK.replace("num_classes", "classes").encode(), "unknown field of the configuration 'classes'"),
        (NETWORK.replace("heads = 3", "heads = 0").encode(), "stages[1].heads = 0"),
        (NETWORK.replace("mlp_ratio = 2", "mlp_ratio = nan", 1).encode(), "stages[0].mlp_ratio = nan"),
        (NETWORK.replace("num_classes = 10", "num_classes = -1").encode(), "num_classes = -1"),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it(content: bytes, named: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    outcome = flops("--config", str(file))
    assert_one_error(outcome, 2, named)
    assert str(file) in outcome.err


def test_two_networks_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(NETWORK)
    assert_one_error(flops("--variant", "tiny", "--config", str(tmp_path / "tiny.toml")), 2, "already a network 'tiny'")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["flop"], "'flop'. Did you mean 'flops'?"), (["--loud", "flops"], "--loud"), (["flops", "--variant", "tin"], "'tin'")],
)
def test_the_process_says_the_same(arguments: list[str], named: str) -> None:
    assert_one_error(run(*arguments), 2, named)

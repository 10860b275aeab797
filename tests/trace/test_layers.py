"""``mpvit layers``: every node of the tree is the sum of its children, and the root what others count."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from chosen import chosen
from commandline import Outcome, call, run_on_terminal, shown
from hypothesis import given, settings
from models import MODELS
from published import PUBLISHED, grouped
from recorded import trace_config
from strategies import configs, shapes
from torch.utils.flop_counter import FlopCounterMode

from mpvit import VARIANTS, ModelConfig, build_model
from mpvit.render import FORMATS
from mpvit.trace.layer_tree import ORDERS, LayerTree, layer_tree
from mpvit.trace.live import trace_module

FIGURES = ("params", "macs", "activations", "bytes_read", "bytes_written", "calls", "backward_macs")

TORCH = {"tiny": 1_635_527_496, "xsmall": 2_950_215_936}
"""Half of what torch's ``FlopCounterMode`` says at 224x224."""

Rows = list[dict[str, Any]]


def variant(name: str) -> LayerTree:
    return layer_tree(trace_config(VARIANTS[name].config, 1, 224, 224), name, backward=True)


def live(name: str) -> LayerTree:
    """The tree of one of the small networks that are not MPViT."""
    make, shape = MODELS[name]
    with torch.device("meta"):
        return layer_tree(trace_module(make().eval(), [torch.empty(shape)], backward=True), name, backward=True)


def by_path(tree: LayerTree) -> dict[str, dict[str, Any]]:
    return {row["path"]: row for row in tree.as_rows()}


def check_conserved(rows: Rows) -> None:
    """Each row with rows below it is their sum in every figure; each path comes once, after its parent's."""
    paths = [row["path"] for row in rows]
    assert len(set(paths)) == len(paths)
    children: dict[str, Rows] = {path: [] for path in paths}
    for row in rows[1:]:
        children[row["parent"]].append(row)
        assert paths.index(row["parent"]) < paths.index(row["path"])
    for row in rows:
        for figure in [name for name in FIGURES if name in row and children[row["path"]]]:
            assert type(row[figure]) is int
            assert row[figure] == sum(child[figure] for child in children[row["path"]]), (row["path"], figure)


# ── sums ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_sums_to_what_is_published_and_what_torch_counts(name: str) -> None:
    rows = variant(name).as_rows()
    check_conserved(rows)
    params, _, activations = PUBLISHED[name]
    assert (rows[0]["params"], rows[0]["activations"]) == (params, activations)
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        build_model(name).eval()(torch.empty(1, 3, 224, 224))
    assert rows[0]["macs"] == counter.get_total_flops() // 2 == TORCH.get(name, rows[0]["macs"])


@settings(max_examples=10)
@given(configs(), shapes())
def test_a_configuration_and_its_network_have_the_same_tree(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    tree = layer_tree(trace_config(config, *shape), "any", backward=True)
    check_conserved(tree.as_rows())
    with torch.device("meta"):
        model = build_model(config).eval()
        found = trace_module(model, [torch.empty(shape[0], config.in_channels, *shape[1:])], backward=True)
    assert by_path(layer_tree(found, "any", backward=True)) == by_path(tree)
    assert tree.root.figures.params == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_the_tree_of_any_module_sums_to_what_torch_counts(name: str) -> None:
    make, shape = MODELS[name]
    rows = live(name).as_rows()
    check_conserved(rows)
    assert rows[0]["params"] == sum(parameter.numel() for parameter in make().parameters())
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        make().eval()(torch.empty(shape))
    undispatched = 2 * 2 * 36 * 36 if name == "functions" else 0  # an outer product, which torch multiplies elementwise
    assert rows[0]["macs"] - undispatched == counter.get_total_flops() // 2


# ── what stands where ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_shared_module_is_charged_to_each_caller_and_owned_once() -> None:
    """A convolution of 4 channels in 2 groups over (2, 4, 9, 7), called at three places; a linear layer, twice at two."""
    conv, head = 2 * 4 * 9 * 7 * 2 * 9, 2 * 4 * 4
    found = {path: (row["macs"], row["params"], row["calls"]) for path, row in by_path(live("shared_module")).items()}
    assert (found["first.conv"], found["conv"], found["second.conv"]) == ((conv, 76, 1), (conv, 0, 1), (conv, 0, 1))
    assert (found["first.head"], found["second.head"]) == ((2 * head, 20, 2), (2 * head, 0, 2))
    assert live("shared_module").shared == ("first.conv", "first.head")


def test_the_position_encodings_of_a_path_are_charged_to_each_layer() -> None:
    """Stage 3 of xsmall: a depthwise 3x3 convolution of 128 channels on 28x28, in each of two layers."""
    found = by_path(variant("xsmall"))
    path = "stages.1.paths.0"
    owner = found[f"{path}.cpe.conv"]
    assert (owner["macs"], owner["params"], owner["calls"]) == (0, 128 * 9 + 128, 0)
    callers = [found[f"{path}.layers.{layer}.cpe.conv"] for layer in range(VARIANTS["xsmall"].config.stages[1].layers)]
    assert [(each["macs"], each["params"], each["calls"]) for each in callers] == [(128 * 9 * 28**2, 0, 1)] * len(callers)


def test_unused_modules_and_own_parameters_are_in_the_tree() -> None:
    tree = live("unused_module")
    found = {row["path"]: (row["kind"], row["params"], row["macs"], row["calls"]) for row in tree.as_rows()}
    assert found == {
        "": ("module", 748, 2 * 3 * 6 * 6, 4),
        "used": ("module", 42, 3 * 6 * 6, 1),
        "gelu()": ("function", 0, 0, 1),
        "tied": ("module", 0, 3 * 6 * 6, 1),
        "mul()": ("function", 0, 0, 1),
        "(parameters)": ("parameters", 6, 0, 0),
        "unused": ("module", 700, 0, 0),
    }
    assert (tree.never_called, tree.tied) == (("unused",), ("tied",))


def test_bytes_of_a_linear_layer() -> None:
    """(3, 6) -> (3, 6) in float32: reads its input, weight and bias."""
    row = by_path(live("unused_module"))["used"]
    assert (row["bytes_read"], row["bytes_written"]) == (4 * (18 + 36 + 6), 4 * 18)


def test_functions_are_leaves_with_their_number_of_calls() -> None:
    """Two einsums over 36 tokens: one with 4 channels a head, and an outer product."""
    row = by_path(live("functions"))["einsum()"]
    assert (row["kind"], row["operator"], row["calls"], row["macs"]) == ("function", "einsum", 2, 2 * 2 * 36 * 36 * (4 + 1))
    attention = by_path(live("plain_vit"))["attentions.0.linear()"]
    assert (attention["calls"], attention["macs"]) == (2, 2 * 16 * 24 * (72 + 24))  # the projections of nn.MultiheadAttention


@pytest.mark.parametrize("name", VARIANTS)
def test_backward_is_twice_forward_but_for_the_first_convolution(name: str) -> None:
    """The gradient of the image is not needed."""
    found = by_path(variant(name))
    assert found[""]["backward_macs"] == 2 * found[""]["macs"] - found["stem.0.conv"]["macs"]


@pytest.mark.parametrize("order", ORDERS)
def test_siblings_are_sorted_and_nothing_is_lost(order: str) -> None:
    tree = variant("small")
    ordered = tree.sorted_by(order)
    assert by_path(ordered) == by_path(tree)
    families: dict[str, list[int]] = {}
    for row in ordered.as_rows()[1:]:
        figure = row["bytes_read"] + row["bytes_written"] if order == "bytes" else row.get(order, 0)
        families.setdefault(row["parent"], []).append(figure)
    assert all(family == sorted(family, reverse=True) for family in families.values())
    assert (ordered == tree) is (order == "order")


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────────


def layers(*arguments: str) -> Outcome:
    return call("layers", *arguments)


def rows_of(outcome: Outcome) -> Rows:
    assert outcome.code == 0, outcome.err
    found: Rows = json.loads(outcome.out)["results"]
    return found


def test_json_and_csv_have_the_whole_tree_whatever_is_shown() -> None:
    rows = rows_of(layers("--variant", "tiny", "--backward", "--depth", "1", "--format", "json"))
    check_conserved(rows)
    assert rows == variant("tiny").as_rows()
    assert max(row["depth"] for row in rows) == 10
    listed = list(csv.DictReader(io.StringIO(layers("--variant", "tiny", "--format", "csv").out)))
    assert [(row["path"], int(row["macs"])) for row in listed] == [(row["path"], row["macs"]) for row in rows]


@pytest.mark.parametrize(
    ("arguments", "models"),
    [
        ([], list(VARIANTS)),
        (["--variant", "base,tiny"], ["base", "tiny"]),
        (["--attention", "sdpa"], [f"{v}+sdpa" for v in VARIANTS]),
    ],
)
def test_a_tree_for_each_network(arguments: list[str], models: list[str]) -> None:
    rows = rows_of(layers(*arguments, "--format", "json"))
    assert [row["model"] for row in rows if row["parent"] is None] == models


def test_size_and_batch() -> None:
    """Convolutions, linear layers and factorized attention do the same for each image, and for each 224x224 of a larger one."""
    (small, _), (large, _) = (
        rows_of(layers("--variant", "tiny", *more, "--format", "json"))[:2]
        for more in ([], ["--size", "448x672", "--batch", "5"])
    )
    head = 1000 * 216
    assert (large["input_shape"], large["macs"]) == ([5, 3, 448, 672], 5 * (6 * (small["macs"] - head) + head))


def test_a_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        "num_classes = 0\n[[stages]]\npaths = 1\nlayers = 1\ndim = 8\nheads = 2\nmlp_ratio = 1\n"
    )
    rows = rows_of(layers("--config", str(tmp_path / "mine.toml"), "--format", "json"))
    assert {row["path"]: row["macs"] for row in rows}["stem.0.conv"] == 4 * 27 * 112**2


def test_any_model() -> None:
    rows = rows_of(layers("--model", "models:PlainVit", "--arg", "depth=1", "--input", "2x3x32x32", "--format", "json"))
    check_conserved(rows)
    projections, attention, mlp = 4 * 24 * 24, 2 * 16 * 24, 2 * 24 * 48
    assert rows[0]["macs"] == 2 * (16 * (24 * 3 * 64 + projections + attention + mlp) + 240)
    assert {row["path"] for row in rows if row["depth"] == 1} >= {"patches", "norms", "attentions", "mlps", "head"}


def test_depth_hides_nodes_and_shows_their_number() -> None:
    code, out, err = layers("--variant", "tiny", "--depth", "2")
    lines = out.splitlines()
    assert (code, lines[0]) == (0, "tiny: input 1×3×224×224")
    assert [re.split(r" {2,}", line)[0] for line in lines[3:]] == [
        "tiny", "stem", "stem.0", "stem.1", "stages", *(f"stages.{i}" for i in range(4)), "adaptive_avg_pool2d()", "head",
    ]  # fmt: skip
    rows = rows_of(layers("--variant", "tiny", "--format", "json"))
    below = sum(row["path"].startswith("stages.2.") for row in rows)
    (stage,) = [line for line in lines if line.startswith("stages.2")]
    assert re.split(r" {2,}", stage)[1:4] == [str(below), "41.5", "678 605 312"]
    assert "of 10; JSON and CSV have every layer" in err
    assert "--depth" not in layers("--variant", "tiny", "--depth", "10").err


def test_bars_show_the_figure_that_siblings_are_sorted_by() -> None:
    by_params = layers("--variant", "tiny", "--sort", "params", "--depth", "1", "--format", "markdown").out
    assert "% of params" in by_params
    names = re.findall(r"^\| (\w+)", by_params, re.MULTILINE)
    assert names == ["Layer", "tiny", "stages", "head", "stem", "adaptive_avg_pool2d"]
    assert f"{100 * 217_000 / PUBLISHED['tiny'][0]:.1f} |" in by_params


@pytest.mark.parametrize("form", FORMATS)
def test_formats(form: str, tmp_path: Path) -> None:
    file = tmp_path / "tree"
    assert layers("--variant", "xsmall", "--format", form, "-o", str(file)).code == 0
    text = file.read_text(encoding="utf-8").replace("\\,", "").replace(" ", "")
    assert str(TORCH["xsmall"]) in text
    assert "stages.1.paths" in text


def test_a_path_is_safe_in_latex() -> None:
    assert r"  adaptive\_avg\_pool2d() & " in layers("--variant", "tiny", "--format", "latex").out


def test_notes_name_shared_unused_and_tied_modules_and_uncounted_operators() -> None:
    shared = layers("--model", "models:SharedModule", "--input", "2x4x9x7").err
    assert "where they are registered: first.conv, first.head." in shared
    unused = layers("--model", "models:UnusedModule", "--input", "3x6").err
    assert "0 calls and their parameters: unused." in unused
    assert "not in tied." in unused
    assert "without MACs: gelu ×1, mul ×1." in unused


def test_help_warns_that_a_module_runs() -> None:
    assert "Importing it runs its code" in " ".join(re.sub(r"[│\s]+", " ", layers("--help").out).split())


def test_output_of_a_user_module_goes_to_stderr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "talking.py").write_text("print('hello')\nimport torch\nNet = lambda: print('new') or torch.nn.Linear(2, 3)\n")
    monkeypatch.chdir(tmp_path)
    outcome = layers("--model", "talking:Net", "--input", "5x2", "--format", "json")
    assert rows_of(outcome)[0]["macs"] == 5 * 2 * 3
    assert "hello" in outcome.err


# ── on a terminal ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("columns", chosen([200, 80, 60, 36], 80, 36))
def test_the_tree_fits_the_window_with_all_digits(columns: int) -> None:
    code, out, _ = run_on_terminal("-q", "layers", "--variant", "xsmall", "--depth", "10", columns=columns)
    lines = shown(out)
    assert code == 0
    assert max(map(len, lines)) <= columns
    for row in variant("xsmall").as_rows():
        assert grouped(row["macs"]) in out
        assert grouped(row["params"]) in out
    assert ("not shown" in "\n".join(lines)) is (columns < 200)


@pytest.mark.parametrize(
    ("arguments", "header"),
    [
        (["--sort", "bytes"], ["Layer", "Below", "% of bytes", "Bytes read", "Bytes written"]),
        (["--sort", "activations"], ["Layer", "Below", "% of activations", "MACs", "Activations"]),
        (["--sort", "params"], ["Layer", "Below", "% of params", "MACs", "Params"]),
        (["--backward"], ["Layer", "Below", "% of MACs", "MACs", "Backward MACs"]),
    ],
)
def test_a_narrow_window_keeps_the_tree_and_the_sorted_figure(arguments: list[str], header: list[str]) -> None:
    lines = shown(run_on_terminal("-q", "layers", "--variant", "base", *arguments, columns=80).out)
    rule = next(number for number, line in enumerate(lines) if line.startswith("──"))
    assert re.split(r" {2,}", lines[rule - 1].strip()) == header
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("├─ stages") for line in lines)


def test_the_bars_and_branches() -> None:
    lines = shown(run_on_terminal("-q", "layers", "--variant", "tiny", "--depth", "2", columns=80).out)
    (whole,) = [line for line in lines if line.startswith("tiny ")]
    (stages,) = [line for line in lines if line.startswith("├─ stages")]
    (third,) = [line for line in lines if line.startswith("│  ├─ 2 ")]
    (last,) = [line for line in lines if line.startswith("└─ head")]
    assert [line.count("█") for line in (whole, stages, third, last)] == [10, 9, 4, 0]
    assert "█████████▋ " in stages  # 95.8 % of 80 eighths: 77
    assert "▏" in last  # 0.01 %, above nothing
    assert (
        len({line.index("1 635 527 496") + 13 for line in [whole]} | {line.index("678 605 312") + 11 for line in [third]}) == 1
    )


def test_in_ascii() -> None:
    outcome = run_on_terminal(
        "layers", "--variant", "tiny", columns=80, variables={"PYTHONIOENCODING": "ascii", "NO_COLOR": "1"}
    )
    assert outcome.out.isascii()
    assert "|- stages" in "\n".join(shown(outcome.out))
    assert "########## 100.0" in outcome.out


def test_piped_output_is_complete_and_has_no_drawing() -> None:
    code, out, _ = layers("--variant", "base", "--depth", "10")
    assert code == 0
    assert not set("│├└█\x1b") & set(out)
    assert len(out.splitlines()) == 3 + len(variant("base").as_rows())
    assert "stages.2.paths.1.layers.0.attention.crpe.convs.0  " in out


# ── ugly inputs ─────────────────────────────────────────────────────────────────────────────────────────────────────

BROKEN = """
import torch
class Net(torch.nn.Module):
    def __init__(self, fails=False):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        if fails:
            raise ValueError("no such depth")
    def forward(self, x):
        return self.layer(x)
number = 3
def nothing(): return 7
"""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--variant", "xsmal"], 2, "unknown variant 'xsmal'"),
        (["--size", "0"], 2, "--size '0'"),
        (["--depth", "0"], 2, "--depth 0: must be at least 1"),
        (["--depth", "-1"], 2, "--depth -1: must be at least 1"),
        (["--depth", "x"], 2, "'x' must be a whole number"),
        (["--sort", "flops"], 2, "unknown order 'flops'"),
        (["--format", "yaml"], 2, "unknown format 'yaml'"),
        (["--model", "torch"], 2, "model 'torch': must be package.module:name"),
        (["--model", "no_such_module:Net"], 2, "cannot import no_such_module"),
        (["--model", "broken:Ne"], 2, "unknown class or function of broken 'Ne'"),
        (["--model", "broken:number"], 2, "number is int"),
        (["--model", "broken:nothing"], 2, "makes int, must be a torch.nn.Module"),
        (["--model", "broken:Net", "--arg", "fails=True", "--input", "2x4"], 1, "no such depth"),
        (["--model", "broken:Net", "--arg", "fails"], 2, "argument 'fails'"),
        (["--model", "broken:Net", "--arg", "depth=3"], 1, "unexpected keyword argument 'depth'"),
        (["--model", "broken:Net", "--input", "2x5"], 1, "failed on 2×5"),
        (["--model", "broken:Net", "--input", "2x-5"], 2, "input '2x-5'"),
        (["--model", "broken:Net", "--input", "2x4:int3"], 2, "unknown dtype 'int3'"),
        (["--model", "broken:Net", "--variant", "tiny"], 2, "--variant with --model"),
        (["--model", "broken:Net", "--batch", "2"], 2, "--batch with --model"),
        (["--input", "2x4"], 2, "--input: needs --model"),
        (["--config", "missing.toml"], 2, "missing.toml"),
        (["-o", "/dev/full"], 1, "/dev/full"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line_with_the_right_exit_code(
    arguments: list[str], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    outcome = layers(*arguments)
    assert (outcome.code, outcome.out) == (code, "")
    error, *hints = outcome.err.splitlines()
    assert error.startswith("Error: ")
    assert said in error
    assert len(hints) <= 1
    assert all(hint.startswith("Hint: ") for hint in hints)

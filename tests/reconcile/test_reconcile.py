"""Each tool's number, explained: against recorded figures, and against the tools themselves, to the last integer."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden import golden
from hypothesis import given
from hypothesis import settings as runs
from live_tools import INSTALLED, traced
from recorded import trace_config
from strategies import configs, shapes
from torch import nn

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.errors import CheckError, UsageError
from mpvit.model.published_layout import PublishedLayout
from mpvit.network import NamedNetwork
from mpvit.reconcile.explain import explain, require_explained, run_tool
from mpvit.tools import TOOLS, Term, Tool, ToolCount, get_tool
from mpvit.trace import Trace
from mpvit.trace.closed_form import LAYOUTS
from mpvit.trace.live import trace_module

PUBLISHED = {  # measured with the published network at 224x224, batch 1: MACs of tiny and xsmall
    "torch": (1_635_527_496, 2_950_215_936),
    "fvcore": (1_654_163_812, 2_971_396_560),
    "thop": (3_176_213_328, 4_700_317_184),
    "ultralytics-thop": (1_657_195_688, 2_974_651_648),
    "torchinfo": (415_535_112, 523_254_056),
    "ptflops-pytorch": (1_838_903_584, 3_186_420_456),
    "ptflops-aten": (1_647_216_760, 2_966_637_032),
    "calflops": (1_804_795_840, 3_138_463_744),
    "deepspeed": (1_598_338_456, 2_900_441_344),
}
WRONG_PARAMS = {"thop": (6_093_144, 10_859_144), "torchinfo": (8_792_328, 15_746_504)}
RIGHT_PARAMS = (5_843_736, 10_573_448)

STAGE = StageConfig(2, 1, 16, 8, 2)


# ── the published network ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("index", "variant"), [(0, "tiny"), (1, "xsmall")])
def test_the_rules_give_the_published_figures_of_each_tool(tool: str, index: int, variant: str) -> None:
    trace = trace_config(VARIANTS[variant].config, 1, 224, 224, layout="published")
    found = explain(trace, variant, tool)
    assert found.tool_macs == PUBLISHED[tool][index]
    expected = WRONG_PARAMS[tool][index] if tool in WRONG_PARAMS else RIGHT_PARAMS[index]
    assert found.tool_params in (expected, None)
    assert (found.tool_params is None) == (tool == "torch")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_published_layout_has_the_names_of_the_checkpoint(variant: str) -> None:
    trace = trace_config(VARIANTS[variant].config, 1, 64, 64, layout="published")
    named = {name: set(module.names[1:]) for name, module in trace.modules.items() if module.parameters}
    expected: dict[str, set[str]] = {}
    for tensor in golden(variant)["tensors"]:
        module, _, _ = tensor["key"].rpartition(".")
        expected.setdefault(module, set()).update(alias.rpartition(".")[0] for alias in tensor["aliases"])
    assert named == expected


def test_the_published_arrangement_computes_the_same() -> None:
    model = build_model(ModelConfig((STAGE, replace(STAGE, dim=24, layers=2)), num_classes=5)).eval()
    image = torch.randn(2, 3, 33, 48)
    with torch.inference_mode():
        plain = model(image)
        assert torch.equal(PublishedLayout(model)(image), plain)


@runs(max_examples=5)
@given(configs(), shapes())
def test_the_rules_give_the_same_for_a_configuration_and_its_network(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    batch, *size = shape
    for layout in LAYOUTS:
        predicted = trace_config(config, *shape, layout=layout)
        found = trace_module(*NamedNetwork("random", config, (size[0], size[1])).on_meta(batch, layout))
        for tool in TOOLS:
            first, second = explain(predicted, "", tool), explain(found, "", tool)
            assert (first.tool_macs, first.tool_params) == (second.tool_macs, second.tool_params)


# ── errors and rows ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_tool_of_another_version_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tool, "installed_version", "9.9")
    explained = explain(trace_config(STAGED, 1, 32, 32), "network", "thop")
    found = run_tool(explained, *NamedNetwork("network", STAGED, (32, 32)).on_meta())
    assert found.error == "rule made for 0.1.1-2209072238, found 9.9"
    assert found.live is None
    assert found.residual is None


def test_a_tool_that_is_not_installed_is_not_run() -> None:
    explained = explain(trace_config(STAGED, 1, 32, 32), "network", "ultralytics-thop")
    found = run_tool(explained, *NamedNetwork("network", STAGED, (32, 32)).on_meta())
    assert (found.error, found.failed) == ("not installed", False)


STAGED = ModelConfig((STAGE,))


def test_an_unexplained_count_is_an_error() -> None:
    explained = replace(explain(trace_config(STAGED, 1, 32, 32), "network", "thop"), live=ToolCount(macs=1, params=2))
    with pytest.raises(CheckError, match="MACs of thop are not explained"):
        require_explained([explained])
    right = ToolCount(macs=explained.tool_macs, params=2)
    with pytest.raises(CheckError, match="parameters of thop are not explained"):
        require_explained([replace(explained, live=right)])


NESTED = nn.Sequential(nn.Linear(6, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize("tool", INSTALLED)
def test_the_error_names_the_module_in_which_a_rule_is_wrong(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, images = get_tool(tool), [torch.zeros(2, 5, 6)]

    def wrong(trace: Trace) -> list[Term]:
        return [*right.rule(trace), *(Term("wrong", 7, "") for call in trace.calls if call.module == "1.linear2")]

    monkeypatch.setattr(TOOLS[tool].replace(":", "."), replace(right, rule=wrong))
    trace = traced(NESTED, images)
    found = run_tool(explain(trace, "network", tool), NESTED, images)
    with pytest.raises(CheckError, match=r"-7 MACs of [\w-]+ are not explained: in 1\.linear2 \(-7\)$") as raised:
        require_explained([found], {"network": trace})
    assert raised.value.hint == "its rule may not know how the tool counts linear"


def test_the_error_names_the_modules_in_which_a_call_is_misread() -> None:
    images = [torch.zeros(2, 5, 6)]
    trace = traced(NESTED, images)
    calls = tuple(replace(call, macs=2 * call.macs) if call.operator == "linear" else call for call in trace.calls)
    misread = replace(trace, calls=calls)
    found = run_tool(explain(misread, "network", "torch"), NESTED, images)
    with pytest.raises(CheckError, match=r"in 0 \(-480\), 1\.self_attn \(-2560\), 1\.linear1 \(-1280\) and 2 more$"):
        require_explained([found], {"network": misread})


def test_an_unknown_tool_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown tool 'torchinfos'"):
        explain(trace_config(STAGED, 1, 32, 32), "network", "torchinfos")


def test_rows_add_up(tmp_path: Path) -> None:
    row = explain(trace_config(VARIANTS["xsmall"].config, 1, 224, 224, layout="published"), "xsmall", "thop").as_row()
    assert row["exact_macs"] + sum(row["terms"].values()) == row["macs"] == 4_700_317_184
    assert row["exact_params"] + sum(row["param_terms"].values()) == row["params"] == 10_859_144
    assert row["terms"].keys() == row["reasons"].keys()
    assert all(row["reasons"].values())
    assert row["printed"] == "4700317184.0"
    (tmp_path / "row.json").write_text(json.dumps(row))


def test_a_misread_call_leaves_a_residual_of_torch() -> None:
    """The rule follows torch's operators one by one, so a wrong reading of a call cannot become a term."""
    model, images = nn.Conv2d(3, 2, 3), [torch.zeros(1, 3, 8, 8)]
    trace = trace_module(model, images)
    misread = replace(trace, calls=tuple(replace(call, macs=16 * call.macs) for call in trace.calls))
    assert run_tool(explain(trace, "conv", "torch"), model, images).residual == 0
    assert run_tool(explain(misread, "conv", "torch"), model, images).residual == -15 * trace.macs

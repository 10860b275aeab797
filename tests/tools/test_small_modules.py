"""Small modules of every kind under every tool that is installed, and against figures recorded with those that are not."""

import json
from pathlib import Path

import pytest
from live_tools import INSTALLED
from zoo.modules import MODULES

from mpvit.reconcile.explain import Explanation, explain, run_tool
from mpvit.tools import TOOLS, trace_options
from mpvit.trace.user_model import trace_user_model
from mpvit.user_model import UserModel
from mpvit.user_model.inputs import parse_input

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "not_installed.json").read_text())
"""Multiply-adds and parameters by module, printed by each tool in an environment of its own (docs/reconcile_live_checks.md)."""

FAILING = {
    ("thop", "layers by keyword"): "tuple index out of range",  # its hooks take the first positional argument for the input
    ("fvcore", "matmul of matrix and vector"): "list index out of range",
    ("fvcore", "matmul of vectors"): "list index out of range",
    ("fvcore", "bmm into out"): "fvcore failed: 3",  # three operands
    **{("calflops", f"conv{axes}d without a batch"): "AssertionError" for axes in (1, 2, 3)},
    ("calflops", "lstm, packed"): "'PackedSequence' object has no attribute 'shape'",
    ("ptflops-pytorch", "lstm, packed"): "'PackedSequence' object has no attribute 'shape'",
    ("ptflops-pytorch", "bmm by keyword"): "missing 1 required positional argument: 'other'",
    ("ptflops-pytorch", "MultiheadAttention without a batch"): "tuple index out of range",
    ("ptflops-pytorch", "MultiheadAttention, keywords"): "not enough values to unpack",
    ("ptflops-pytorch", "layers by keyword"): "tuple index out of range",
    **{("deepspeed", f"conv{axes}d without a batch"): "AssertionError" for axes in (1, 2, 3)},
    ("deepspeed", "bmm by keyword"): "unexpected keyword argument 'mat2'",
    ("deepspeed", "einsum of two, listed"): "'list' object has no attribute 'shape'",
    ("deepspeed", "lstm, packed"): "'PackedSequence' object has no attribute 'shape'",
    ("deepspeed", "fused attention by keyword"): "missing 3 required positional arguments",
    ("deepspeed", "F.adaptive_avg_pool2d by keyword"): "unexpected keyword argument 'output_size'",
}
"""Where a tool itself fails, and a part of what it says."""

EMPTY = ("calflops", "StopIteration")
"""The tool that fails on every module without parameters, and what it says."""


def check_terms(explained: Explanation) -> None:
    """Every term has a name of its own, a reason and a whole number."""
    for terms in (explained.terms, explained.param_terms or ()):
        for term in terms:
            assert type(term.amount) is int
            assert term.name
            assert len(term.reason.split()) > 2
            assert term.reason == term.reason.strip()
        assert len({term.name for term in terms}) == len(terms)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # people still write the old one
@pytest.mark.parametrize("name", MODULES)
def test_tools_agree_with_their_rules_on_small_modules(name: str) -> None:
    make, inputs = MODULES[name]
    model = UserModel(name, lambda: make().eval(), tuple(map(parse_input, inputs.split())))
    trace, network, tensors = trace_user_model(model, **trace_options(TOOLS))
    for tool in TOOLS:
        explained = explain(trace, name, tool)
        check_terms(explained)
        if tool in INSTALLED:
            ran = run_tool(explained, network, tensors)
            empty = not trace.params and EMPTY[0] == tool
            if words := EMPTY[1] if empty else FAILING.get((tool, name)):
                assert words in ran.error
            else:
                assert (tool, ran.error, ran.residual, ran.params_residual or 0) == (tool, "", 0, 0)
        if tool in RECORDED and (tool, name) not in FAILING:
            assert (tool, explained.tool_macs, explained.tool_params) == (tool, *RECORDED[tool][name])

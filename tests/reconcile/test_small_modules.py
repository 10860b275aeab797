"""Small modules of every kind under every tool: their rules against the tools themselves, to the last integer."""

import pytest
from zoo.modules import MODULES

from mpvit.reconcile.explain import explain, run_tool, with_graph
from mpvit.reconcile.tools import TOOLS
from mpvit.trace.user_model import traced
from mpvit.user_model import UserModel
from mpvit.user_model.inputs import parse_input

RUN = [name for name in TOOLS if name not in ("ultralytics-thop", "deepspeed")]

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
}
"""Where a tool itself fails, and a part of what it says."""

EMPTY = ("calflops", "StopIteration")
"""The tool that fails on every module without parameters, and what it says."""


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # people still write the old one
@pytest.mark.parametrize("name", MODULES)
def test_tools_agree_on_small_modules(name: str) -> None:
    make, inputs = MODULES[name]
    found = traced(UserModel(name, lambda: make().eval(), tuple(map(parse_input, inputs.split()))))
    trace = with_graph(found.trace, RUN, found.network, found.tensors)
    for tool in RUN:
        ran = run_tool(explain(trace, name, tool), found.network, found.tensors)
        empty = not trace.params and EMPTY[0] == tool
        if words := EMPTY[1] if empty else FAILING.get((tool, name)):
            assert words in ran.error
        else:
            assert (tool, ran.error, ran.residual, ran.params_residual or 0) == (tool, "", 0, 0)

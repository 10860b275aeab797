"""``calflops.calculate_flops`` (0.3.2): replaces functions of torch, and charges each call to the module that makes it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mpvit.tools import Term, Tool, ToolCount
from mpvit.tools.patched_functions import CONVOLUTIONS, count_patched, patched_macs, printed
from mpvit.tools.terms import frozen_parameters
from mpvit.trace import PatchedCall, Trace

if TYPE_CHECKING:
    from torch import Tensor, nn

_PATCHED = {
    "functional": ("linear", *CONVOLUTIONS),
    "torch": ("matmul", "addmm", "baddbmm"),
    "method": ("matmul", "addmm"),
}
"""The functions whose multiply-adds it counts."""


def _rule(trace: Trace) -> Iterator[Term]:
    counted, missing = count_patched(trace, _PATCHED, _formula)
    reason = "the sum walks the tree of modules and adds all calls of a shared one under each of its names"
    for each in counted:
        yield each.term
        yield Term("shared modules", (len(trace.modules[each.call.module].names) - 1) * each.macs, reason)
    yield from missing


def _formula(call: PatchedCall) -> int:
    """Return what it counts of a call: transposed convolutions are divided by their groups twice."""
    if call.operator.startswith("conv_transpose"):
        filters = call.operands[1][1]
        groups = call.output[1] // filters
        return patched_macs(call) // filters * (filters // groups)
    return patched_macs(call)


def _run(network: "nn.Module", tensors: "Sequence[Tensor]") -> ToolCount:
    import torch
    from calflops import calculate_flops

    from mpvit.tools.by_module import annotated

    by_module = annotated(network, "__macs__")
    with torch.no_grad():
        _, macs, params = calculate_flops(network, args=tensors, print_results=False, output_as_string=False)
    return ToolCount(macs=macs, params=params, by_module=by_module)


TOOL = Tool(
    name="calflops",
    distribution="calflops",
    version="0.3.2",
    source="calflops/calculate_pipline.py and pytorch_ops.py",
    rule=_rule,
    params_rule=frozen_parameters,
    run=_run,
    prints=printed,
)

"""``deepspeed.profiling.flops_profiler`` (0.19.8): replaces functions of torch, and counts each call once."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mpvit.tools import Term, Tool, ToolCount
from mpvit.tools.patched_functions import CONVOLUTIONS, count_patched, patched_macs, printed
from mpvit.tools.terms import no_terms
from mpvit.trace import Trace

if TYPE_CHECKING:
    from torch import Tensor, nn

_PATCHED = {
    "functional": ("linear", *CONVOLUTIONS, "scaled_dot_product_attention"),
    "torch": ("matmul", "mm", "bmm", "addmm", "baddbmm"),
    "method": ("matmul", "mm", "bmm", "addmm"),
    "infix": ("matmul",),
}
"""The functions whose multiply-adds it counts."""


def _rule(trace: Trace) -> Iterator[Term]:
    counted, missing = count_patched(trace, _PATCHED, patched_macs)
    yield from (each.term for each in counted)
    yield from missing


def _run(network: "nn.Module", tensors: "Sequence[Tensor]") -> ToolCount:
    import torch
    from deepspeed.profiling.flops_profiler import get_model_profile

    from mpvit.tools.by_module import annotated

    by_module = annotated(network, "__macs__")
    with torch.no_grad():
        _, macs, params = get_model_profile(network, args=tensors, print_profile=False, as_string=False, warm_up=0)
    return ToolCount(macs=macs, params=params, by_module=by_module)


TOOL = Tool(
    name="deepspeed",
    distribution="deepspeed",
    version="0.19.8",
    source="deepspeed/profiling/flops_profiler/profiler.py",
    rule=_rule,
    params_rule=no_terms,
    run=_run,
    prints=printed,
)

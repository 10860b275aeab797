"""``deepspeed.profiling.flops_profiler`` (0.19.8): patched functions of torch, each call counted once."""

from collections.abc import Iterator
from math import prod

from mpvit.reconcile import Rule, Term, left_out, right
from mpvit.trace import Trace

_PATCHED = {
    "functional": (
        "linear",
        *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3)),
        "scaled_dot_product_attention",
    ),
    "torch": ("matmul", "mm", "bmm", "addmm", "baddbmm"),
    "method": ("matmul", "mm", "bmm", "addmm"),
    "sign": ("matmul",),
}
"""The functions whose multiply-adds it counts, by how code calls them."""


def _macs(trace: Trace) -> Iterator[Term]:
    yield from left_out(
        (call for call in trace.calls if call.operator not in _PATCHED.get(call.spelling, ())),
        "not among the functions that it patches for multiply-adds (an einsum counts as FLOPs alone)",
    )
    for call in trace.calls:
        if call.operator == "matmul":
            left, right_operand = call.operands[:2]
            counted = prod(left) * right_operand[-1]
            yield Term("broadcast product", counted - call.macs, "left operand times columns, whatever the right one repeats")


RULE = Rule(_macs, right, "deepspeed/profiling/flops_profiler/profiler.py")

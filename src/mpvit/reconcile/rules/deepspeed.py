"""``deepspeed.profiling.flops_profiler`` (0.19.8): patched functions of torch, each call counted once."""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term, right
from mpvit.reconcile.patched import CONVOLUTIONS, multiply_adds, patched
from mpvit.trace import Trace

_PATCHED = {
    "functional": ("linear", *CONVOLUTIONS, "scaled_dot_product_attention"),
    "torch": ("matmul", "mm", "bmm", "addmm", "baddbmm"),
    "method": ("matmul", "mm", "bmm", "addmm"),
    "infix": ("matmul",),
}
"""The functions whose multiply-adds it counts."""


def _macs(trace: Trace) -> Iterator[Term]:
    for found in patched(trace, _PATCHED, multiply_adds):
        yield found if isinstance(found, Term) else found.term


RULE = Rule(_macs, right, "deepspeed/profiling/flops_profiler/profiler.py")

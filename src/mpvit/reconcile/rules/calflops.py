"""``calflops.calculate_flops`` (0.3.2): patched functions of torch, charged to the module whose forward calls them."""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term, without_frozen
from mpvit.reconcile.patched import CONVOLUTIONS, multiply_adds, patched
from mpvit.trace import PatchedCall, Trace

_PATCHED = {
    "functional": ("linear", *CONVOLUTIONS),
    "torch": ("matmul", "addmm", "baddbmm"),
    "method": ("matmul", "addmm"),
}
"""The functions whose multiply-adds it counts."""


def _macs(trace: Trace) -> Iterator[Term]:
    for found in patched(trace, _PATCHED, _counted):
        if isinstance(found, Term):
            yield found
            continue
        yield found.term
        yield Term(
            "shared modules",
            (len(trace.modules[found.seen.module].names) - 1) * found.macs,
            "the sum walks the tree of modules and adds all calls of a shared one under each of its names",
        )


def _counted(seen: PatchedCall) -> int:
    """Return what it counts of a call: transposed convolutions are divided by their groups twice."""
    if seen.operator.startswith("conv_transpose"):
        filters = seen.operands[1][1]
        groups = seen.output[1] // filters
        return multiply_adds(seen) // filters * (filters // groups)
    return multiply_adds(seen)


RULE = Rule(_macs, without_frozen, "calflops/calculate_pipline.py and pytorch_ops.py")

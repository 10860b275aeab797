"""``calflops.calculate_flops`` (0.3.2): patched functions of torch, charged to the module whose forward calls them."""

from collections.abc import Iterator
from math import prod

from mpvit.reconcile import Rule, Term, left_out, without_frozen
from mpvit.trace import Call, Trace

PATCHED = {
    "functional": ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    "torch": ("matmul", "addmm", "baddbmm"),
    "method": ("matmul", "addmm"),
}
"""The functions whose multiply-adds it counts, by how code calls them."""


def _macs(trace: Trace) -> Iterator[Term]:
    yield from left_out(
        (call for call in trace.calls if call.operator not in PATCHED.get(call.spelling, ())),
        "not among the functions that it patches for multiply-adds (an einsum counts as FLOPs alone, @ is not seen)",
    )
    for call in trace.calls:
        if call.operator not in PATCHED.get(call.spelling, ()):
            continue
        counted = _counted(call)
        yield Term("transposed convolutions" if call.is_convolution else "broadcast product", counted - call.macs, _FORMULA)
        yield Term(
            "shared modules",
            (len(trace.modules[call.module].names) - 1) * counted,
            "the sum walks the tree of modules and adds all calls of a shared one under each of its names",
        )


_FORMULA = "its formula divides transposed convolutions by their groups twice, and takes no broadcast of a product"


def _counted(call: Call) -> int:
    if call.operator.startswith("conv_transpose"):
        data, weight = call.operands[:2]
        groups = call.output[1] // weight[1]
        return data[0] * prod(data[2:]) * prod(weight[2:]) * data[1] * (weight[1] // groups)
    if call.operator == "matmul":
        left, right_operand = call.operands[:2]
        return prod(left) * right_operand[-1]
    return call.macs


RULE = Rule(_macs, without_frozen, "calflops/calculate_pipline.py and pytorch_ops.py")

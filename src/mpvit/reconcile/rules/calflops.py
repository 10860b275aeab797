"""``calflops.calculate_flops`` (0.3.2): patched functions of torch, charged to the module whose forward calls them."""

from collections.abc import Iterator
from math import prod

from mpvit.reconcile import Rule, Term, left_out, without_frozen
from mpvit.trace import Sighting, Trace

_PATCHED = {
    "functional": ("linear", *(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3))),
    "torch": ("matmul", "addmm", "baddbmm"),
    "method": ("matmul", "addmm"),
}
"""The functions whose multiply-adds it counts, by home and name; one held by reference is not met."""


def _macs(trace: Trace) -> Iterator[Term]:
    seen: set[int] = set()
    for each in trace.sightings:
        if each.operator not in _PATCHED[each.home]:
            continue
        counted, exact = _counted(each), 0
        if each.call is not None and each.call not in seen:
            seen.add(each.call)
            exact = trace.calls[each.call].macs
        yield Term(*_difference(each, counted - exact))
        yield Term(
            "shared modules",
            (len(trace.modules[each.module].names) - 1) * counted,
            "the sum walks the tree of modules and adds all calls of a shared one under each of its names",
        )
    yield from left_out(
        (call for index, call in enumerate(trace.calls) if index not in seen),
        "not among the functions that it patches for multiply-adds (an einsum counts as FLOPs alone, @ is not seen)",
    )


def _counted(seen: Sighting) -> int:
    """Return what a patched function counts."""
    if seen.operator in ("addmm", "baddbmm"):
        return prod(seen.operands[1]) * seen.operands[2][-1]
    data, weight = seen.operands[:2]
    if seen.operator == "linear":
        return prod(data) * weight[0]
    if seen.operator == "matmul":
        return prod(data) * weight[-1]
    if seen.operator.startswith("conv_transpose"):
        groups = seen.output[1] // weight[1]
        return data[0] * prod(data[2:]) * prod(weight[2:]) * data[1] * (weight[1] // groups)
    positions = (
        [length - padding % 2 for length, padding in zip(data[2:], seen.padding, strict=True)]
        if seen.padding
        else seen.output[2:]
    )
    return data[0] * prod(positions) * prod(weight)


def _difference(seen: Sighting, amount: int) -> tuple[str, int, str]:
    if seen.operator.startswith("conv_transpose"):
        return "transposed convolutions", amount, "its formula divides them by their groups twice"
    if seen.operator.startswith("conv"):
        return "convolutions of even windows", amount, 'of padding="same" it takes the same half on both sides'
    if seen.operator == "linear":
        return "flat weights", amount, "the first axis of a weight is taken for its outputs"
    return "broadcast product", amount, "left operand times columns, whatever is repeated"


RULE = Rule(_macs, without_frozen, "calflops/calculate_pipline.py and pytorch_ops.py")

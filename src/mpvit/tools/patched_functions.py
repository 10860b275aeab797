"""What calflops and DeepSpeed count of the functions of torch that they replace; both descend from the same code."""

from collections.abc import Callable, Collection, Mapping
from math import prod
from typing import NamedTuple

from mpvit.tools import Term
from mpvit.tools.terms import not_counted
from mpvit.trace import PatchedCall, Trace

CONVOLUTIONS = tuple(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3))


class PatchedCount(NamedTuple):
    """A call of a replaced function, the multiply-adds that the tool counts of it, and the term by which these differ."""

    call: PatchedCall
    macs: int
    term: Term


def count_patched(
    trace: Trace, functions: Mapping[str, Collection[str]], formula: Callable[[PatchedCall], int]
) -> tuple[list[PatchedCount], list[Term]]:
    """Return what a tool counts that replaces ``functions``, and terms for the calls of all others.

    ``functions`` are names by namespace; ``infix`` (@) is one of its own, as no code can hold it by reference. ``formula`` is
    what the tool counts of a call.
    """
    infix = [
        PatchedCall("infix", call.operator, call.module, call.operands, call.output, index)
        for index, call in enumerate(trace.calls)
        if call.call_style == "infix"
    ]
    counted: list[PatchedCount] = []
    seen: set[int] = set()
    for each in (*trace.patched_calls, *infix):
        if each.operator in functions.get(each.namespace, ()):
            macs, exact = formula(each), 0
            if each.call is not None and each.call not in seen:
                seen.add(each.call)
                exact = trace.calls[each.call].macs
            counted.append(PatchedCount(each, macs, _difference(each.operator, macs - exact)))
    reason = "not among the functions that it patches for multiply-adds, or held by reference (an einsum counts as FLOPs alone)"
    return counted, not_counted((call for index, call in enumerate(trace.calls) if index not in seen), reason)


def _difference(operator: str, amount: int) -> Term:
    if operator.startswith("conv_transpose"):
        return Term("transposed convolutions", amount, "its formula divides them by their groups twice")
    if operator.startswith("conv"):
        return Term("convolutions of even windows", amount, 'with padding="same" it takes the same half on both sides')
    if operator == "linear":
        return Term("flat weights", amount, "it takes the first axis of a weight for the outputs")
    return Term("broadcast product", amount, "left operand times columns, whatever the right one repeats")


def patched_macs(call: PatchedCall) -> int:
    """Return the multiply-adds that DeepSpeed counts of a call; calflops differs for transposed convolutions only."""
    if call.operator in ("addmm", "baddbmm"):
        return prod(call.operands[1]) * call.operands[2][-1]
    if call.operator == "scaled_dot_product_attention":
        query, key, value = call.operands[:3]
        return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    data, weight = call.operands[:2]
    if call.operator == "linear":
        return prod(data) * weight[0]
    if call.operator.startswith("conv_transpose"):
        return prod(data) * prod(weight[1:])
    if call.operator.startswith("conv"):
        odd = [padding % 2 for padding in call.padding] or [0] * len(data)
        lengths = (length - lost for length, lost in zip(call.output[2:], odd, strict=False))
        return data[0] * prod(lengths) * prod(weight)
    return prod(data) * weight[-1]


def printed(macs: int) -> str:
    """Return a number of multiply-adds as both tools print it."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if macs >= size:
            return f"{round(macs / size, 2):g} {unit}MACs"
    return f"{macs} MACs"

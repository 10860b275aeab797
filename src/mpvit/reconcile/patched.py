"""What calflops and DeepSpeed count of the functions of torch that they replace: both go back to one code."""

from collections.abc import Callable, Collection, Iterator, Mapping
from math import prod
from typing import NamedTuple

from mpvit.reconcile import Term, left_out
from mpvit.trace import PatchedCall, Trace

CONVOLUTIONS = tuple(f"conv{kind}{axes}d" for kind in ("", "_transpose") for axes in (1, 2, 3))


class Counted(NamedTuple):
    """What is counted of a call of a replaced function, and the term by which that differs from the multiply-adds."""

    seen: PatchedCall
    macs: int
    term: Term


def patched(
    trace: Trace, functions: Mapping[str, Collection[str]], counts: Callable[[PatchedCall], int]
) -> Iterator[Counted | Term]:
    """Yield what a tool counts that replaces ``functions``, by namespace and name, and then the terms of what it does not see.

    ``counts`` are its multiply-adds of a call. ``infix`` (@) is a namespace of its own: no code holds it by reference.
    """
    infix = (
        PatchedCall("infix", call.operator, call.module, call.operands, call.output, index)
        for index, call in enumerate(trace.calls)
        if call.call_style == "infix"
    )
    met: set[int] = set()
    for seen in (*trace.patched_calls, *infix):
        if seen.operator in functions.get(seen.namespace, ()):
            macs, exact = counts(seen), 0
            if seen.call is not None and seen.call not in met:
                met.add(seen.call)
                exact = trace.calls[seen.call].macs
            yield Counted(seen, macs, _difference(seen.operator, macs - exact))
    yield from left_out(
        (call for index, call in enumerate(trace.calls) if index not in met),
        "not among the functions that it patches for multiply-adds, or held by reference (an einsum counts as FLOPs alone)",
    )


def _difference(operator: str, amount: int) -> Term:
    if operator.startswith("conv_transpose"):
        return Term("transposed convolutions", amount, "its formula divides them by their groups twice")
    if operator.startswith("conv"):
        return Term("convolutions of even windows", amount, 'of padding="same" it takes the same half on both sides')
    if operator == "linear":
        return Term("flat weights", amount, "the first axis of a weight is taken for its outputs")
    return Term("broadcast product", amount, "left operand times columns, whatever the right one repeats")


def multiply_adds(seen: PatchedCall) -> int:
    """Return what both count of a call; transposed convolutions are DeepSpeed's."""
    if seen.operator in ("addmm", "baddbmm"):
        return prod(seen.operands[1]) * seen.operands[2][-1]
    if seen.operator == "scaled_dot_product_attention":
        query, key, value = seen.operands[:3]
        return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    data, weight = seen.operands[:2]
    if seen.operator == "linear":
        return prod(data) * weight[0]
    if seen.operator.startswith("conv_transpose"):
        return prod(data) * prod(weight[1:])
    if seen.operator.startswith("conv"):
        odd = [padding % 2 for padding in seen.padding] or [0] * len(data)
        lengths = (length - lost for length, lost in zip(seen.output[2:], odd, strict=False))
        return data[0] * prod(lengths) * prod(weight)
    return prod(data) * weight[-1]

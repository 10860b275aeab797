"""``fvcore.nn.FlopCountAnalysis`` (0.1.5): handlers for the operators of a JIT trace; its "FLOP" is a multiply-add.

What the tracer records is in the trace where it was asked for (``mpvit.trace.graph``); elsewhere, as in closed form, each
call is taken for one operator of its own name, which for this project's networks is the same.
"""

from collections.abc import Callable, Iterator
from math import prod

from mpvit.reconcile import Rule, Term, left_out, right
from mpvit.trace import Call, GraphNode, Trace

_CONVOLUTION = "_convolution"

_EXACT_EQUATIONS = ("abc,abd->acd", "abc,adc->adb")
"""For these two, batched products of matrices, it has formulas of its own."""

_NORMS = ("layer_norm", "group_norm", "instance_norm")

_ELEMENTWISE = {
    "upsample_nearest2d": (1, "upsampling", "1 an output element, bilinear 4, in 2 dimensions"),
    "upsample_bilinear2d": (4, "upsampling", "1 an output element, bilinear 4, in 2 dimensions"),
    "grid_sampler": (4, "sampling", "4 an output element, as if it were bilinear"),
}
"""Multiply-adds an output element, with a name and reason."""

_FORMULAS: dict[str, Callable[[GraphNode], tuple[int, int]]] = {
    _CONVOLUTION: lambda each: (_taps(each, first=True), _taps(each, first=False)),
    "linear": lambda each: (prod(each.operands[0]) * each.operands[1][0], prod(each.output) * each.operands[0][-1]),
    **dict.fromkeys(
        ("matmul", "mm", "bmm"), lambda each: (_product(*each.operands[:2]), prod(each.output) * each.operands[0][-1])
    ),
    "addmm": lambda each: (_product(*each.operands[1:3]), prod(each.output) * each.operands[1][-1]),
}
"""Of what multiplies and has a handler: its figure, from the left operand or the weight, and the exact one, from the output."""


def _macs(trace: Trace) -> Iterator[Term]:
    recorded = trace.graph
    if recorded is None:
        recorded = tuple(_as_node(index, call) for index, call in enumerate(trace.calls))
    handled: set[int | None] = set()
    met: set[int | None] = set()
    for each in recorded:
        met.add(each.call)
        if each.operator in _FORMULAS:
            counted, exact = _FORMULAS[each.operator](each)
        elif each.operator == "einsum":
            flops = einsum_flops(each, trace.calls[each.call].macs if each.call is not None else 0)
            counted, exact = flops // 2, _einsum_macs(each, trace)
        else:
            yield from _without_sums(each)
            continue
        handled.add(each.call)
        yield Term(*_difference(each.operator, counted - exact))
        if each.call is None:
            yield Term("under the tracer alone", exact, "the network takes another path where sizes are traced")
    lost = [(index, call) for index, call in enumerate(trace.calls) if index not in handled]
    yield from left_out((call for index, call in lost if index in met), _UNSUPPORTED)
    for term in left_out((call for index, call in lost if index not in met), _UNTRACED):
        yield Term(term.name.replace("not counted", "not traced"), term.amount, term.reason)


_UNSUPPORTED = "no handler for this operator: it stands under unsupported_ops()"
_UNTRACED = "inside an autograd.Function, or its result is never used, or on no path that is taken under the tracer"


def _difference(operator: str, amount: int) -> tuple[str, int, str]:
    if operator == "einsum":
        return "einsum rounding", amount, "half of numpy's printed 'Optimized FLOP count', which keeps four significant digits"
    return "broadcast product", amount, "left operand times columns, whatever the right one repeats"


def _without_sums(each: GraphNode) -> Iterator[Term]:
    """Yield what is counted of an operator that multiplies no matrix."""
    read = prod(each.operands[0]) if each.operands else 0
    if each.operator == "batch_norm" and not each.training:
        yield Term("batch norm", (1 + each.affine) * read, "2 an element: at inference a scale and a shift")
    elif each.operator in (*_NORMS, "batch_norm"):
        name = each.operator.replace("_", " ") + (" in training" if each.training else "")
        yield Term(name, (4 + each.affine) * read, "5 an element, its own estimate")
    elif each.operator == "adaptive_avg_pool2d":
        yield Term("adaptive pooling", read, "1 an input element")
    elif each.operator in _ELEMENTWISE:
        factor, name, reason = _ELEMENTWISE[each.operator]
        yield Term(name, factor * prod(each.output), reason)


def _product(left: tuple[int, ...], right_operand: tuple[int, ...]) -> int:
    return prod(left) * right_operand[-1]


def _taps(each: GraphNode, *, first: bool) -> int:
    """Return a convolution's multiply-adds: by its handler, images times weights times positions; or an element's taps each."""
    data, weight = each.operands[:2]
    around = data if each.transposed else each.output
    return data[0] * prod(weight) * prod(around[2:]) if first else prod(around) * prod(weight[1:])


def _einsum_macs(each: GraphNode, trace: Trace) -> int:
    """Return the products of an einsum; of three operands and more, or of an equation with dots, what the trace has."""
    if len(each.operands) == 2 and "." not in each.equation:  # noqa: PLR2004
        return prod(_sizes(each).values())
    return trace.calls[each.call].macs if each.call is not None else 0


def _sizes(each: GraphNode) -> dict[str, int]:
    sizes: dict[str, int] = {}
    terms = each.equation.partition("->")[0]
    for letter, size in zip(terms.replace(",", ""), (size for shape in each.operands for size in shape), strict=True):
        sizes[letter] = max(sizes.get(letter, 1), size)
    return sizes


def einsum_flops(each: GraphNode, macs: int) -> int:
    """Return numpy's ``einsum_path`` FLOP count as it prints it, in whole numbers.

    Of one or two operands it is 2 an element of the product of all axes where one is summed over, else 1; what numpy prints
    is one more. More operands, and what an equation leaves out, are numpy's business. ``macs`` stand in for an equation
    that is not known.
    """
    terms, arrow, result = each.equation.partition("->")
    if not each.equation:
        return 2 * macs
    if not arrow or "." in terms or len(each.operands) > 2:  # noqa: PLR2004
        return _numpys_flops(each)
    sizes = _sizes(each)
    flops = prod(sizes.values()) * (2 if set(sizes) - set(result) else 1)
    return flops if each.equation in _EXACT_EQUATIONS else int(float(f"{flops + 1:.3e}"))


def _numpys_flops(each: GraphNode) -> int:
    import numpy as np

    operands = [np.broadcast_to(0.0, shape) for shape in each.operands]  # shapes without memory
    printed = np.einsum_path(each.equation, *operands, optimize="optimal")[1]
    (line,) = [line for line in printed.splitlines() if "optimized flop" in line.lower()]
    return int(float(line.partition(":")[2]))


# ── without the tracer ──────────────────────────────────────────────────────────────────────────────────────────────

_NAMES = {"interpolate nearest": "upsample_nearest2d", "interpolate bilinear": "upsample_bilinear2d"}


def _as_node(index: int, call: Call) -> GraphNode:
    """Return a call as the one operator that the tracer records of it, if its name is that of an operator."""
    return GraphNode(
        operator=_CONVOLUTION if call.is_convolution else _NAMES.get(call.operator, call.operator),
        call=index,
        operands=call.operands,
        output=call.output,
        equation=call.equation,
        affine=len(call.operands) > (3 if call.operator == "batch_norm" else 1),  # without: its input, and what it has run
        transposed=call.operator.startswith("conv_transpose"),
    )


RULE = Rule(_macs, right, "fvcore/nn/flop_count.py and jit_handles.py", reads_graph=True)

"""``fvcore.nn.FlopCountAnalysis`` (0.1.5), the counter of the published figures: handlers for the operators of a JIT trace.

Its "FLOP" is a multiply-add. It traces a real forward pass and keeps every intermediate tensor. The rule reads what the
tracer records if the trace has it; else, as in closed form, each call counts as one operator of the same name, which is the
same for this project's networks.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from mpvit.tools import Term, Tool, ToolCount
from mpvit.tools.terms import no_terms, not_counted
from mpvit.trace import Call, GraphNode, Trace
from mpvit.trace.multiply_adds import axis_lengths, multiply_adds

if TYPE_CHECKING:
    from torch import Tensor, nn

_CONVOLUTION = "_convolution"

_EXACT_EQUATIONS = ("abc,abd->acd", "abc,adc->adb")
"""The batched matrix products for which it has formulas of its own."""

_NORMS = ("layer_norm", "group_norm", "instance_norm")

_RESAMPLING = {
    "upsample_nearest2d": (1, "upsampling", "1 an output element, bilinear 4, in 2 dimensions"),
    "upsample_bilinear2d": (4, "upsampling", "1 an output element, bilinear 4, in 2 dimensions"),
    "grid_sampler": (4, "sampling", "4 an output element, as if it were bilinear"),
}
"""Multiply-adds an output element, and the name and reason of the term."""


def _rule(trace: Trace) -> Iterator[Term]:
    graph = trace.graph
    if graph is None:
        graph = tuple(_node_of(index, call) for index, call in enumerate(trace.calls))
    handled: set[int | None] = set()
    for node in graph:
        if node.operator not in _FORMULAS:
            yield from _without_products(node)
            continue
        exact = _exact(node, trace)
        handled.add(node.call)
        yield _difference(node.operator, _FORMULAS[node.operator](node, exact) - exact)
        if node.call is None:
            yield Term("under the tracer only", exact, "the network takes another path where sizes are traced")
    traced = {node.call for node in graph}
    missing = [(index, call) for index, call in enumerate(trace.calls) if index not in handled]
    yield from not_counted((call for index, call in missing if index in traced), _UNSUPPORTED)
    yield from (Term(f"not traced: {call.operator}", -call.macs, _UNTRACED) for index, call in missing if index not in traced)


_UNSUPPORTED = "no handler for this operator: unsupported_ops() lists it"
_UNTRACED = "inside an autograd.Function, or its result is never used, or on no path that is taken under the tracer"


def _difference(operator: str, amount: int) -> Term:
    if operator == "einsum":
        reason = "half of numpy's printed 'Optimized FLOP count', which keeps four significant digits"
        return Term("einsum rounding", amount, reason)
    return Term("broadcast product", amount, "left operand times columns, whatever the right one repeats")


def _without_products(node: GraphNode) -> Iterator[Term]:
    read = prod(node.operands[0]) if node.operands else 0
    if node.operator == "batch_norm" and not node.training:
        yield Term("batch norm", (1 + node.affine) * read, "2 an element: at inference a scale and a shift")
    elif node.operator in (*_NORMS, "batch_norm"):
        name = node.operator.replace("_", " ") + (" in training" if node.training else "")
        yield Term(name, (4 + node.affine) * read, "5 an element, its own estimate")
    elif node.operator == "adaptive_avg_pool2d":
        yield Term("adaptive pooling", read, "1 an input element")
    elif node.operator in _RESAMPLING:
        factor, name, reason = _RESAMPLING[node.operator]
        yield Term(name, factor * prod(node.output), reason)


def _exact(node: GraphNode, trace: Trace) -> int:
    """Return the multiply-adds of a node by its shapes, or those of its call if the shapes do not tell."""
    operator = node.operator
    if operator == _CONVOLUTION:
        operator = "conv_transpose2d" if node.transposed else "conv2d"
    macs = multiply_adds(operator, node.operands, node.output, node.equation)
    return macs if macs is not None else 0 if node.call is None else trace.calls[node.call].macs


def _convolution(node: GraphNode, _: int) -> int:
    """Return what its handler counts: images x weights x positions."""
    data, weight = node.operands[:2]
    return data[0] * prod(weight) * prod((data if node.transposed else node.output)[2:])


def einsum_flops(node: GraphNode, macs: int) -> int:
    """Return numpy's ``einsum_path`` FLOP count as it prints it: with four significant digits.

    For one or two operands it is the product of all axes, times 2 if any is summed over, and numpy prints one more. For more
    operands and for equations with dots numpy is asked. A node without an equation has 2 FLOPs for each of ``macs``.
    """
    terms, arrow, result = node.equation.partition("->")
    if not node.equation:
        return 2 * macs
    if not arrow or "." in terms or len(node.operands) > 2:  # noqa: PLR2004
        return _numpys_flops(node)
    lengths = axis_lengths(node.equation, node.operands)
    flops = prod(lengths.values()) * (2 if set(lengths) - set(result) else 1)
    return flops if node.equation in _EXACT_EQUATIONS else int(float(f"{flops + 1:.3e}"))


def _numpys_flops(node: GraphNode) -> int:
    import numpy as np

    operands = [np.broadcast_to(0.0, shape) for shape in node.operands]  # shapes without memory
    printed = np.einsum_path(node.equation, *operands, optimize="optimal")[1]
    (line,) = [line for line in printed.splitlines() if "optimized flop" in line.lower()]
    return int(float(line.partition(":")[2]))


_FORMULAS: dict[str, Callable[[GraphNode, int], int]] = {
    _CONVOLUTION: _convolution,
    "linear": lambda node, _: prod(node.operands[0]) * node.operands[1][0],
    **dict.fromkeys(("matmul", "mm", "bmm"), lambda node, _: prod(node.operands[0]) * node.operands[1][-1]),
    "addmm": lambda node, _: prod(node.operands[1]) * node.operands[2][-1],
    "einsum": lambda node, exact: einsum_flops(node, exact) // 2,
}
"""What its handlers count of each product, from the left operand or the weight; the exact figure is at hand."""

_NAMES = {"interpolate nearest": "upsample_nearest2d", "interpolate bilinear": "upsample_bilinear2d"}


def _node_of(index: int, call: Call) -> GraphNode:
    """Return a call as the one operator that the tracer records for it."""
    return GraphNode(
        operator=_CONVOLUTION if call.is_convolution else _NAMES.get(call.operator, call.operator),
        call=index,
        operands=call.operands,
        output=call.output,
        equation=call.equation,
        affine=len(call.operands) > (3 if call.operator == "batch_norm" else 1),  # batch norm also reads its statistics
        transposed=call.operator.startswith("conv_transpose"),
    )


# ── the tool itself ─────────────────────────────────────────────────────────────────────────────────────────────────

_KINDS = {"einsum": "matmul", "adaptive_avg_pool2d": "pool"}
"""Kinds of operation by fvcore's operator names, where they differ."""


def _run(network: "nn.Module", tensors: "Sequence[Tensor]") -> ToolCount:
    import torch
    from fvcore.nn import FlopCountAnalysis, parameter_count
    from fvcore.nn.activation_count import _DEFAULT_SUPPORTED_OPS as OUTPUTS
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as FLOPS

    from mpvit.tools.by_module import without_below

    activations = 0

    def also_counting_outputs(operator: str) -> Callable[[Any, Any], Any]:
        def handle(inputs: Any, outputs: Any) -> Any:  # noqa: ANN401 - values of the JIT graph
            nonlocal activations
            counted = OUTPUTS[operator](inputs, outputs)  # a number, or a counter with one
            activations += sum(counted.values()) if isinstance(counted, Counter) else counted
            return FLOPS[operator](inputs, outputs)

        return handle

    with torch.no_grad():
        flops = FlopCountAnalysis(network, tuple(tensors))
        flops.set_op_handle(**{operator: also_counting_outputs(operator) for operator in OUTPUTS})
        by_kind: Counter[str] = Counter()
        for operator, macs in flops.by_operator().items():
            by_kind[_KINDS.get(operator, operator)] += int(macs)
        return ToolCount(
            macs=int(flops.total()),
            params=parameter_count(network)[""],
            activations=int(activations),
            by_module=without_below(flops.by_module(), dict(network.named_modules())),
            by_kind=dict(by_kind),
            not_counted=dict(flops.unsupported_ops()),
        )


TOOL = Tool(
    name="fvcore",
    distribution="fvcore",
    version="0.1.5.post20221221",
    source="fvcore/nn/flop_count.py and jit_handles.py",
    rule=_rule,
    params_rule=no_terms,
    run=_run,
    prints=str,
    convention="fvcore",
    keeps_outputs=True,
    reads_graph=True,
)

"""``ultralytics-thop`` (2.2.3): hooks on the modules of known classes and of classes that extend them, and some functions.

The rule is known from what the tool prints: its licence (AGPL) keeps its code out of this project.
"""

from collections.abc import Iterator
from math import ceil, prod

from mpvit.tools import Term, Tool, thop
from mpvit.tools.recurrent_layers import RECURRENT, recurrent_layer
from mpvit.tools.terms import no_terms, not_counted
from mpvit.trace import FUSED_ATTENTION, Call, Module, Trace

_FUNCTIONS = ("linear", "matmul", "bmm", FUSED_ATTENTION)
"""The functions that it counts wherever they are called, in addition to an einsum of at most two operands."""

_CONVOLUTIONS = tuple(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3))
_ATTENTION = "MultiheadAttention"
_SOFTMAXES = {"Softmax": (3, -1), "Softmax2d": (3, -1), "LogSoftmax": (3, 0), "Softmin": (4, -1)}
"""(factor, summand): a row of n numbers counts factor x n + summand."""

_NORMS = (
    *(f"{norm}Norm{axes}d" for norm in ("Batch", "Instance") for axes in (1, 2, 3)),
    *("SyncBatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"),
)
_UPSAMPLED = {"linear": 5, "bilinear": 11, "trilinear": 31, "bicubic": 259}
_ELEMENTWISE = {"RNN": 0, "GRU": 4, "LSTM": 4}
"""Products and sums a hidden unit and step, in addition to the gates themselves."""


def _rule(trace: Trace) -> Iterator[Term]:
    for call in trace.calls:
        module = trace.modules[call.module]
        if not _is_seen(call, module.kind):
            yield from not_counted([call], "neither in a module of a class that it hooks nor a function that it counts")
        if module.kind in RECURRENT:
            yield Term("recurrent layers", _gates(call, module), "sums and biases of the gates, products of states and gates")
        elif extra := _extra(call, module):
            yield extra


def _is_seen(call: Call, kind: str) -> bool:
    if kind in (_ATTENTION, *RECURRENT) or (kind in _CONVOLUTIONS and call.is_convolution):
        return True
    return call.operator in _FUNCTIONS or (call.operator == "einsum" and len(call.operands) <= 2)  # noqa: PLR2004


def _extra(call: Call, module: Module) -> Term | None:
    """Return what is counted in addition to the multiply-adds."""
    kind = module.kind
    if kind in _NORMS and call.operator.endswith("norm"):
        amount = (4 if module.parameters else 2) * call.elements
        return Term("norms", amount, "4 an element with learned scale and shift")
    if (kind == _ATTENTION and call.operator in ("softmax", FUSED_ATTENTION)) or kind in _SOFTMAXES:
        return Term("softmax", _softmax(call, module), "exponentials, additions and divisions")
    if kind == "PReLU":
        return Term("activations", call.elements, "1 an element")
    if kind == "Bilinear":
        left, right_operand = call.operands[:2]
        return Term("bilinear layers", call.elements * right_operand[-1] * (left[-1] + 1), "as products one after the other")
    return _resampling(call, module)


def _resampling(call: Call, module: Module) -> Term | None:
    if module.kind.startswith(("AvgPool", "AdaptiveAvgPool")):
        axes = int(module.kind[-2])
        lengths = zip(call.operands[0][-axes:], call.output[-axes:], strict=True)
        read = prod(_read(axis, *each, module) for axis, each in enumerate(lengths)) * prod(call.output[:-axes])
        return Term("pooling", read + call.elements, "each output element sums its window and divides")
    if module.kind.startswith("Upsampl"):
        factor = _UPSAMPLED.get(module.setting("mode"), 0)
        return Term("upsampling", factor * call.elements, "a fixed number an output element, by its mode")
    return None


def _read(axis: int, length: int, out: int, module: Module) -> int:
    """Return the sum of the lengths of all windows of an average along an axis, without the parts outside of it."""
    if module.kind.startswith("Adaptive"):
        return sum(ceil((index + 1) * length / out) - index * length // out for index in range(out))
    window, stride, padding = (
        each if isinstance(each, int) else each[axis] for each in map(module.setting, ("kernel_size", "stride", "padding"))
    )
    around = padding if module.setting("count_include_pad") else 0
    first = [index * stride - padding for index in range(out)]
    return sum(min(start + window, length + around) - max(start, -around) for start in first)


def _softmax(call: Call, module: Module) -> int:
    """Return what is counted of a softmax; inside fused attention there is a row for each query, with a number for each key."""
    shape, axis = call.operands[0], -1
    if call.operator == FUSED_ATTENTION:
        shape = (*shape[:-1], call.operands[1][-2])
    elif module.kind != _ATTENTION:
        axis = _axis(call, module)
    factor, more = _SOFTMAXES.get(module.kind, _SOFTMAXES["Softmax"])
    return prod(shape) // shape[axis] * (factor * shape[axis] + more)


def _axis(call: Call, module: Module) -> int:
    """Return the axis of a module's softmax; without a setting it is torch's default."""
    if module.kind == "Softmax2d":
        return -3
    axis: int = module.setting("dim", 0 if len(call.operands[0]) in (0, 1, 3) else 1)
    return axis


def _gates(call: Call, module: Module) -> int:
    """Return what is counted of a recurrent layer, over all its steps, in addition to its matrix products."""
    layer = recurrent_layer(module, module.kind)
    if layer is None or not call.macs:
        return 0
    of_step = layer.hidden * (layer.gates * (1 + 2 * layer.bias) + _ELEMENTWISE[layer.kind])
    return layer.layers * layer.directions * of_step * prod(call.operands[0][:-1])


TOOL = Tool(
    name="ultralytics-thop",
    distribution="ultralytics-thop",
    version="2.2.3",
    source="what version 2.2.3 prints",
    rule=_rule,
    params_rule=no_terms,
    run=thop.run,
    prints=thop.TOOL.prints,
)

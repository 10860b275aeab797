"""``thop.profile`` (0.1.1): forward hooks on the modules of known classes; it sees no function that is no module."""

from collections.abc import Iterator
from math import prod

from mpvit.operations import Shape
from mpvit.reconcile import Rule, Term, left_out
from mpvit.reconcile.recurrent import GATES, Recurrent, recurrent
from mpvit.trace import Call, Module, ModuleCall, Trace

_CONVOLUTIONS = tuple(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3))
_NORMS = (*(f"{norm}Norm{axes}d" for norm in ("Batch", "Instance") for axes in (1, 2, 3)), "SyncBatchNorm", "LayerNorm")
_RECURRENT = (*GATES, *(f"{kind}Cell" for kind in GATES))
_AVERAGES = ("AvgPool1d", "AvgPool2d", "AvgPool3d")
_ADAPTIVE = ("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
_UPSAMPLED = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}
_HOOKED = (*_CONVOLUTIONS, "Linear", *_NORMS, "PReLU", *_RECURRENT)
"""The classes with parameters that it hooks."""

_ELEMENTWISE = {"RNN": 0, "GRU": 4, "LSTM": 4}
"""Products and sums a hidden number and step beside the gates: those of states and gates."""


def _macs(trace: Trace) -> Iterator[Term]:
    yield from left_out(
        (call for call in trace.calls if trace.modules[call.module].type not in _HOOKED),
        "a function, not a module of a class that it hooks",
    )
    counted: dict[str, int] = {}
    for call in trace.calls:
        module = trace.modules[call.module]
        extra = _extra(call, module)
        if extra:
            yield extra
        more = (call.macs if module.type in _HOOKED else 0) + (extra.amount if extra else 0)
        counted[call.module] = counted.get(call.module, 0) + more
    for module_call in trace.module_calls:
        if layer := recurrent(trace.modules[module_call.module]):
            amount = _recurrent(layer, module_call, trace)
            counted[module_call.module] += amount
            yield Term(
                "recurrent layers",
                amount,
                "gates with their sums and biases, hidden numbers as if never projected, images counted by the axes' order",
            )
    for name, amount in counted.items():
        yield Term(
            "shared modules",
            (len(trace.modules[name].names) ** 2 - 1) * amount,
            "a module with k names gets k hooks, each adding all of its cost, and is summed k times: k² in all",
        )


def _extra(call: Call, module: Module) -> Term | None:
    """Return what a hook counts beside multiply-adds, or in place of them."""
    read = prod(call.operands[0])
    if module.type in _NORMS:
        amount = (4 if module.parameters else 2) * read
        return Term("norms", amount, "4 an element with learned scale and shift, 2 without")
    if module.type in _CONVOLUTIONS and call.is_convolution:
        return _convolution(call, module)
    if module.type == "Softmax" and (axis := module.setting("dim")) is not None:
        length = call.operands[0][axis]
        return Term("softmax", read // length * (3 * length - 1), "n exponentials, n - 1 additions, n divisions a row")
    if module.type == "PReLU":
        return Term("activations", read, "1 an element")
    return _resampling(call, module)


def _convolution(call: Call, module: Module) -> Term:
    """Return what its one formula for all convolutions makes of a call: the second axis for the channels."""
    data, weight = call.operands[:2]
    transposed = "Transpose" in module.type
    channels = data[1 - len(weight)]
    groups = call.output[1 - len(weight)] // weight[1] if transposed else channels // weight[1]
    amount = call.elements * (data[1] // groups) * prod(weight[2:]) - call.macs
    if transposed:
        return Term("transposed convolutions", amount, "output elements times taps: the inputs' are fewer")
    return Term("images without a batch", amount, "the second axis is taken for the channels")


def _resampling(call: Call, module: Module) -> Term | None:
    if module.type in _AVERAGES:
        return Term("pooling", call.elements, "1 an output element")
    if module.type in _ADAPTIVE:
        window = prod(size / out for size, out in zip(call.operands[0][2:], call.output[2:], strict=True))
        return Term("pooling", int((window + 1) * call.elements), "each output element sums its window and divides")
    if module.type.startswith("Upsampl"):
        factor = _UPSAMPLED.get(module.setting("mode"), 0)
        return Term("upsampling", factor * call.elements, "a fixed number an output element, by its mode")
    return None


def _recurrent(layer: Recurrent, module_call: ModuleCall, trace: Trace) -> int:
    """Return what its hook counts for one call of a recurrent layer more than the multiply-adds that there are."""
    calls = [call for call in trace.calls if call.path == module_call.path]
    times = sum(other.path == module_call.path for other in trace.module_calls)
    widths = [layer.inputs, *[layer.hidden * layer.directions] * (layer.layers - 1)]
    of_gate = sum(layer.hidden * (width + layer.hidden + 1 + 2 * layer.bias) for width in widths)
    step = layer.gates * of_gate + _ELEMENTWISE[layer.kind] * layer.hidden * layer.layers
    return (
        layer.directions * step * _steps(layer, module_call.inputs, calls[0].operands)
        - sum(call.macs for call in calls) // times
    )


def _steps(layer: Recurrent, inputs: tuple[Shape, ...], operands: tuple[Shape, ...]) -> int:
    """Return how often it takes a step: as many as the first axes have, whether there is a batch or not.

    Of packed sequences, (rows, features) and (steps,), each is taken to be as long as the longest.
    """
    if layer.cell:
        return inputs[0][0]
    if len(inputs) > 1 and len(inputs[1]) == 1:
        return inputs[1][0] * operands[1][1]
    return prod(inputs[0][:2])


def _params(trace: Trace) -> Iterator[Term]:
    called = {call.module for call in trace.calls}
    for name, module in trace.modules.items():
        owned = sum(prod(shape) for _, shape in module.parameters)
        if module.type not in _HOOKED:
            yield Term("parameters outside known modules", -module.params, "only hooked classes are asked for theirs")
        elif not name:
            yield Term("the network itself", -module.params, "only what modules below it have is added up")
        elif name not in called:
            yield Term("modules never called", -module.params, "a module's hook adds its parameters when it is called")
        else:
            yield Term("tied weights", owned - module.params, "each module's own are added, shared or not")
            yield Term("shared modules", (len(module.names) - 1) * owned, "summed once under each name")


RULE = Rule(_macs, _params, "thop/profile.py, thop/vision/basic_hooks.py and thop/rnn_hooks.py")

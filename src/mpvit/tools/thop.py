"""``thop.profile`` (0.1.1): forward hooks on the modules of known classes; functions that are no module count nothing.

It leaves hooks and buffers on the network, so it only ever gets a copy.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from mpvit.operations import Shape
from mpvit.tools import Term, Tool, ToolCount
from mpvit.tools.recurrent_layers import RECURRENT, RecurrentLayer, recurrent_layer
from mpvit.tools.terms import not_counted
from mpvit.trace import Call, Module, ModuleCall, Trace

if TYPE_CHECKING:
    from torch import Tensor, nn

_CONVOLUTIONS = tuple(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3))
_NORMS = (*(f"{norm}Norm{axes}d" for norm in ("Batch", "Instance") for axes in (1, 2, 3)), "SyncBatchNorm", "LayerNorm")
_AVERAGES = ("AvgPool1d", "AvgPool2d", "AvgPool3d")
_ADAPTIVE = ("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
_UPSAMPLED = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}
_HOOKED = (*_CONVOLUTIONS, "Linear", *_NORMS, "PReLU", *RECURRENT)
"""The classes with parameters that it hooks."""

_ELEMENTWISE = {"RNN": 0, "GRU": 4, "LSTM": 4}
"""Products and sums of states and gates, a hidden unit and step, in addition to the gates themselves."""


def _rule(trace: Trace) -> Iterator[Term]:
    yield from not_counted(
        (call for call in trace.calls if trace.modules[call.module].type not in _HOOKED),
        "a function, not a module of a class that it hooks",
    )
    counted: Counter[str] = Counter()
    for call in trace.calls:
        module = trace.modules[call.module]
        extra = _extra(call, module)
        if extra:
            yield extra
        counted[call.module] += (call.macs if module.type in _HOOKED else 0) + (extra.amount if extra else 0)
    for module_call in trace.module_calls:
        module = trace.modules[module_call.module]
        if layer := recurrent_layer(module, module.type):
            amount = _recurrent(layer, module_call, trace)
            counted[module_call.module] += amount
            reason = "gates with their sums and biases, states as if never projected, steps by the order of the axes"
            yield Term("recurrent layers", amount, reason)
    for name, amount in counted.items():
        yield Term(
            "shared modules",
            (len(trace.modules[name].names) ** 2 - 1) * amount,
            "a module with k names gets k hooks, each adding all of its cost, and is summed k times: k² in all",
        )


def _extra(call: Call, module: Module) -> Term | None:
    """Return what a hook counts in addition to the multiply-adds, or instead of them."""
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
    """Return by how much its one formula for all convolutions differs: it takes the second axis for the channels."""
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


def _recurrent(layer: RecurrentLayer, module_call: ModuleCall, trace: Trace) -> int:
    """Return how much more its hook counts than the exact multiply-adds, for one call of a recurrent layer."""
    calls = [call for call in trace.calls if call.path == module_call.path]
    times = sum(other.path == module_call.path for other in trace.module_calls)
    widths = [layer.inputs, *[layer.hidden * layer.directions] * (layer.layers - 1)]
    of_gate = sum(layer.hidden * (width + layer.hidden + 1 + 2 * layer.bias) for width in widths)
    step = layer.gates * of_gate + _ELEMENTWISE[layer.kind] * layer.hidden * layer.layers
    steps = _steps(layer, module_call.inputs, calls[0].operands)
    return layer.directions * step * steps - sum(call.macs for call in calls) // times


def _steps(layer: RecurrentLayer, inputs: Sequence[Shape], operands: Sequence[Shape]) -> int:
    """Return the number of steps that it counts: the product of the first two axes, with or without a batch.

    Each of several packed sequences, (rows, features) and (steps,), counts as if it were as long as the longest.
    """
    if layer.cell:
        return inputs[0][0]
    if len(inputs) > 1 and len(inputs[1]) == 1:
        return inputs[1][0] * operands[1][1]
    return prod(inputs[0][:2])


def _params_rule(trace: Trace) -> Iterator[Term]:
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


# ── the tool itself ─────────────────────────────────────────────────────────────────────────────────────────────────

_KINDS = {"Conv2d": "conv", "Linear": "linear", "BatchNorm2d": "batch_norm", "LayerNorm": "layer_norm"}


def run(network: "nn.Module", tensors: "Sequence[Tensor]") -> ToolCount:
    """Run ``profile``, which ultralytics-thop has under the same name."""
    from thop import profile
    from thop.profile import register_hooks

    types = {path: type(module) for path, module in network.named_modules(remove_duplicate=False)}
    leaves = [type(module) for module in network.modules() if not list(module.children())]
    macs, params, layers = profile(network, tuple(tensors), verbose=False, ret_layer_info=True)
    by_module = dict(_own_macs("", macs, layers))
    by_kind: Counter[str] = Counter()
    for path, own in by_module.items():
        kind = types[path].__name__
        by_kind[_KINDS.get(kind, kind)] += own
    return ToolCount(
        macs=int(macs),
        params=int(params),
        by_module=by_module,
        by_kind=dict(+by_kind),
        not_counted=Counter(kind.__name__ for kind in leaves if kind not in register_hooks),
    )


def _own_macs(path: str, macs: float, layers: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (path, multiply-adds without those below it) of each module, from nested (macs, params, children) by name."""
    yield path, int(macs - sum(below for below, _, _ in layers.values()))
    for name, (below, _, children) in layers.items():
        yield from _own_macs(f"{path}.{name}".lstrip("."), below, children)


TOOL = Tool(
    name="thop",
    distribution="thop",
    version="0.1.1-2209072238",
    source="thop/profile.py, thop/vision/basic_hooks.py and thop/rnn_hooks.py",
    rule=_rule,
    params_rule=_params_rule,
    run=run,
    prints=lambda macs: str(float(macs)),
    convention="thop",
    modules_only=True,
)

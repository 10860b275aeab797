"""``thop.profile`` (0.1.1): forward hooks on the modules of known classes; it sees no function that is no module."""

from collections.abc import Iterator
from math import prod

from mpvit.reconcile import Rule, Term, left_out
from mpvit.trace import Call, Module, Trace

_CONVOLUTIONS = tuple(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3))
_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "LayerNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")
_AVERAGES = ("AvgPool1d", "AvgPool2d", "AvgPool3d")
_ADAPTIVE = ("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d")
_UPSAMPLED = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 259}
_HOOKED = (*_CONVOLUTIONS, "Linear", *_NORMS, "SyncBatchNorm", "PReLU")
"""The classes with parameters that it hooks."""


def _macs(trace: Trace) -> Iterator[Term]:
    yield from left_out(
        (call for call in trace.calls if trace.modules[call.module].type not in _HOOKED),
        "a function, not a module of a class that it hooks",
    )
    for call in trace.calls:
        module = trace.modules[call.module]
        extra = _extra(call, module)
        if extra:
            yield extra
        counted = (call.macs if module.type in _HOOKED else 0) + (extra.amount if extra else 0)
        times = len(module.names)
        yield Term(
            "shared modules",
            (times**2 - 1) * counted,
            "a module with k names gets k hooks, each adding all of its cost, and is summed k times: k² in all",
        )


def _extra(call: Call, module: Module) -> Term | None:
    """Return what a hook counts beside multiply-adds, or in place of them."""
    read = prod(call.operands[0])
    if module.type in _NORMS:
        amount = (4 if module.parameters else 2) * read
        return Term("norms", amount, "4 an element with learned scale and shift, 2 without")
    if module.type.startswith("ConvTranspose"):
        data, weight = call.operands[:2]
        groups = call.output[1] // weight[1]
        amount = call.elements * (data[1] // groups) * prod(weight[2:])
        return Term("transposed convolutions", amount - call.macs, "output elements times taps: the inputs' are fewer")
    if module.type == "Softmax" and "dim" in (settings := dict(module.settings)):
        length = call.operands[0][int(settings["dim"])]
        return Term("softmax", read // length * (3 * length - 1), "n exponentials, n - 1 additions, n divisions a row")
    if module.type == "PReLU":
        return Term("activations", read, "1 an element")
    return _resampling(call, module)


def _resampling(call: Call, module: Module) -> Term | None:
    if module.type in _AVERAGES:
        return Term("pooling", call.elements, "1 an output element")
    if module.type in _ADAPTIVE:
        window = prod(size / out for size, out in zip(call.operands[0][2:], call.output[2:], strict=True))
        return Term("pooling", int((window + 1) * call.elements), "each output element sums its window and divides")
    if module.type.startswith("Upsampl"):
        factor = _UPSAMPLED.get(str(dict(module.settings).get("mode")), 0)
        return Term("upsampling", factor * call.elements, "a fixed number an output element, by its mode")
    return None


def _params(trace: Trace) -> Iterator[Term]:
    called = {call.module for call in trace.calls}
    for name, module in trace.modules.items():
        owned = sum(prod(shape) for _, shape in module.parameters)
        if module.type not in _HOOKED:
            yield Term("parameters outside known modules", -module.params, "only hooked classes are asked for theirs")
        elif name not in called:
            yield Term("modules never called", -module.params, "a module's hook adds its parameters when it is called")
        else:
            yield Term("tied weights", owned - module.params, "each module's own are added, shared or not")
            yield Term("shared modules", (len(module.names) - 1) * owned, "summed once under each name")


RULE = Rule(_macs, _params, "thop/profile.py and thop/vision/basic_hooks.py")

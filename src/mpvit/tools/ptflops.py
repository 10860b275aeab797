"""``ptflops`` (0.7.5), with two backends.

``pytorch`` has hooks on known classes, averaged over the batch, and replaces functions. ``aten`` counts the operators that
reach the CPU's dispatcher, with their biases; in closed form these are the operators of the trace, which are the same for
this project's networks.
"""

import contextlib
import inspect
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING

from mpvit.operations import Shape
from mpvit.tools import Term, Tool, ToolCount
from mpvit.tools.recurrent_layers import RecurrentLayer, recurrent_layer
from mpvit.tools.terms import frozen_parameters, not_counted
from mpvit.trace import ELEMENTWISE_PRODUCT, Call, Module, ModuleCall, PatchedCall, Trace

if TYPE_CHECKING:
    from torch import Tensor, nn

# ── the backend pytorch ─────────────────────────────────────────────────────────────────────────────────────────────

_MULTIPLYING = ("Linear", *(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3)))
_NORMS = (*(f"{norm}Norm{axes}d" for norm in ("Batch", "Instance") for axes in (1, 2, 3)), "GroupNorm", "LayerNorm")
_ACTIVATIONS = ("ReLU", "PReLU", "ELU", "LeakyReLU", "ReLU6", "GELU")
_POOLS = tuple(f"{kind}{axes}d" for kind in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool") for axes in (1, 2, 3))

_STATES = {"RNN": 1, "GRU": 7, "LSTM": 10}
"""Products and sums a hidden unit and step, in addition to weights and biases."""

_POOLED = (f"{kind}_pool{axes}d" for kind in ("avg", "max", "adaptive_avg", "adaptive_max") for axes in (1, 2, 3))

_ACTIVATION = ("functions of activations", "1 an element, also where a hooked module calls the function")
_POOLING = ("functions of pooling", "1 an input element, also where a hooked module calls the function")
_UPSAMPLING = ("functions of upsampling", "1 an output element, also where a hooked module calls it")
_PRODUCT = ("broadcast or added product", "left operand times columns, and the addend")
_ELEMENTWISE = ("elementwise functions", "torch.add and torch.mul, 1 an element; + and * count nothing")

_METHODS = {
    **dict.fromkeys(("matmul", "mm", "bmm", "addmm"), _PRODUCT),
    **dict.fromkeys(("mul", "add"), _ELEMENTWISE),
}
_PATCHED = {
    "functional": {
        **dict.fromkeys(("relu", "prelu", "elu", "relu6", "gelu", "silu", "softmax"), _ACTIVATION),
        **dict.fromkeys(_POOLED, _POOLING),
        **dict.fromkeys(("interpolate", "upsample"), _UPSAMPLING),
    },
    "torch": {**_METHODS, "baddbmm": _PRODUCT},
    "method": _METHODS,
}
"""The functions that it replaces, by namespace and name, each with the name and reason of its term."""


def _pytorch_rule(trace: Trace) -> Iterator[Term]:
    batch = trace.input_shapes[0][0] if len(trace.input_shapes) == 1 and trace.input_shapes[0] else 1
    patched: dict[tuple[str, str], float] = {}
    products: set[int] = set()
    for call in trace.patched_calls:
        if kind := _PATCHED[call.namespace].get(call.operator):
            patched[kind] = patched.get(kind, 0) + _patched(call)
            if kind == _PRODUCT and call.call is not None:
                products.add(call.call)
    hooked = 0
    for counted, terms in _hooks(trace, products):
        yield from terms
        hooked += counted
    whole = {kind: int(amount) for kind, amount in patched.items()}  # a factor of upsampling need not be whole
    exact = sum(trace.calls[index].macs for index in products)
    for (name, reason), amount in whole.items():
        yield Term(name, amount - (exact if (name, reason) == _PRODUCT else 0), reason)
    total = int(hooked / batch + sum(patched.values()))
    reason = "what hooks count is divided by the images; functions are not"
    yield Term("averaged over the batch", total - sum(whole.values()) - hooked, reason)


def _hooks(trace: Trace, products: Collection[int]) -> Iterator[tuple[int, list[Term]]]:
    """Yield what hooks count, with the terms by which it differs; ``products`` are the calls of patched functions."""
    for index, call in enumerate(trace.calls):
        module = trace.modules[call.module]
        terms = _hook_terms(call, module)
        counted = (call.macs if module.type in _MULTIPLYING else 0) + sum(term.amount for term in terms)
        again = (len(module.names) - 1) * counted
        yield counted + again, [*terms, Term("shared modules", again, "a module's total is added under each of its names")]
        if module.type not in _MULTIPLYING and index not in products:
            yield 0, not_counted([call], "neither a module of a class that it hooks nor a function that it patches")
    for module_call in trace.module_calls:
        module = trace.modules[module_call.module]
        if module.type == "MultiheadAttention":
            counted = len(module.names) * _attention(module_call, module)
            reason = "a formula of its own for nn.MultiheadAttention, softmax and scale included"
            yield counted, [Term("attention modules", counted, reason)]
        elif layer := recurrent_layer(module, module.type):
            counted = len(module.names) * _recurrent(layer, module_call)
            reason = "weights, biases and sums a step; both directions as the forward one"
            yield counted, [Term("recurrent layers", counted, reason)]


def _hook_terms(call: Call, module: Module) -> list[Term]:
    """Return the terms by which the hook of ``module`` differs for a call."""
    read = prod(call.operands[0])
    if module.type == "Linear":
        return [Term("biases of linear layers", call.elements if call.bias else 0, "1 an output element")]
    if module.type in _MULTIPLYING and call.is_convolution:
        return _convolution(call)
    if module.type in _NORMS:
        scaled = module.type != "LayerNorm" and bool(module.parameters)  # it looks for the attribute "affine"
        reason = "2 an element with scale and shift, 1 for a layer norm, whose it overlooks"
        return [Term("norms", (1 + scaled) * read, reason)]
    if module.type in _ACTIVATIONS:
        return [Term("activations", call.elements, "1 an element")]
    if module.type in _POOLS:
        return [Term("pooling", read, "1 an input element")]
    amount = prod(call.output[1:]) if module.type == "Upsample" else 0  # its hook takes the first image for the batch
    return [Term("upsampling", amount, "1 an output element of the first image")]


def _convolution(call: Call) -> list[Term]:
    data, weight = call.operands[:2]
    positions = prod((data if "transpose" in call.operator else call.output)[2:])
    biases = data[0] * prod(call.output[1:]) if call.bias else 0
    reason = "the first axis is taken for the batch, those from the third on for the positions"
    return [
        Term("biases of convolutions", biases, "1 an output element"),
        Term("images without a batch", prod(weight) * data[0] * positions - call.macs, reason),
    ]


def _patched(call: PatchedCall) -> float:
    """Return what a patched function counts, also inside a hooked module."""
    read = prod(call.operands[0])
    if call.operator in ("interpolate", "upsample"):
        return _upsampled(call)
    if call.operator in ("addmm", "baddbmm"):
        return prod(call.operands[1]) * call.operands[2][-1] + (read if call.beta else 0)
    if call.operator in ("matmul", "mm", "bmm"):
        return read * call.operands[1][-1]
    return _broadcast(call.operands[:2]) if call.operator in ("mul", "add") else read


def _upsampled(call: PatchedCall) -> float:
    """Return the output elements; from the scale factors if the call gives these: their product, rounded down if several."""
    factor, axes = call.scale_factor, len(call.operands[0]) - 2
    if factor is None:
        return prod(call.output)
    return prod(call.operands[0]) * (int(prod(factor)) if isinstance(factor, tuple) else factor**axes)


def _broadcast(shapes: Sequence[Shape]) -> int:
    """Return the product of the larger length of each axis, with the axes aligned at the first."""
    axes = range(max(len(shape) for shape in shapes))
    return prod(max(shape[axis] if axis < len(shape) else 1 for shape in shapes) for axis in axes)


def _attention(call: ModuleCall, module: Module) -> int:
    if [len(shape) for shape in call.inputs[:3]] != [3, 3, 3]:
        return 0  # the tool fails on anything but (query, key, value) with a batch
    heads, first = module.setting("num_heads"), module.setting("batch_first")
    (query, key, value) = call.inputs[:3]
    batch, length = (0, 1) if first else (1, 0)
    n, m, k = query[length], key[length], value[length]
    dim, key_dim, value_dim = query[2], key[2], value[2]
    projections = n * dim * dim + m * key_dim * key_dim + k * value_dim * value_dim
    if any(name == "in_proj_bias" for name, _ in module.parameters):
        projections += (n + m + k) * dim
    per_head = n * m * (dim // heads) + n * m + n * m * (value_dim // heads)
    return query[batch] * (n * dim + projections + heads * per_head + n * value_dim * (value_dim + 1))


def _recurrent(layer: RecurrentLayer, call: ModuleCall) -> int:
    """Return what its hook counts; it takes the product of the first two axes for the number of steps."""
    step = sum(map(prod, layer.weights))
    step += layer.layers * (_STATES[layer.kind] * layer.hidden + 2 * layer.bias * layer.gates * layer.hidden)
    return layer.directions * step * prod(call.inputs[0][: 1 if layer.cell else 2])


# ── the backend aten ────────────────────────────────────────────────────────────────────────────────────────────────

_WITH_FORMULA = ("mm", "addmm", "bmm", "convolution")


def _aten_rule(trace: Trace) -> Iterator[Term]:
    operators = trace.dispatched_on_cpu or tuple(call.dispatched for call in trace.calls)
    for call, own in zip(trace.calls, operators, strict=True):
        elementwise = sum(each.macs for each in own if each.name == ELEMENTWISE_PRODUCT)
        counted = sum(each.macs for each in own if each.name in _WITH_FORMULA)
        biases = sum(each.biases for each in own)
        yield Term("products without a sum", -elementwise, "dispatched as an elementwise product, which has no formula")
        yield Term(f"not counted: {call.operator}", elementwise + counted - call.macs, "no formula for what the CPU runs it by")
        if call.is_convolution:
            yield Term("biases of convolutions", biases, "1 an output element")
        else:
            reason = "1 an output element, where the bias is added by the product (addmm)"
            yield Term("biases of linear layers", biases, reason)


# ── the tool itself ─────────────────────────────────────────────────────────────────────────────────────────────────


def _run(network: "nn.Module", tensors: "Sequence[Tensor]", backend: str) -> ToolCount:
    import torch
    from ptflops import get_model_complexity_info

    from mpvit.tools.by_module import annotated, charged

    hooked = annotated(network, "__flops__")
    others = charged(network, _dispatched_so_far if backend == "aten" else _patched_so_far)
    given = tensors[0] if len(tensors) == 1 else _named(network, tensors)
    with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()) as printed:
        macs, params = get_model_complexity_info(
            network,
            tuple(tensors[0].shape[1:]) or (1,),
            print_per_layer_stat=False,
            as_strings=False,
            input_constructor=lambda _: given,
            backend=backend,
        )
    if macs is None:
        reason = printed.getvalue().partition("exception: \n")[2].partition("\n")[0]
        raise RuntimeError(reason or "it could not run the network")
    return ToolCount(macs=macs, params=params, by_module=hooked + others)


def _named(network: "nn.Module", tensors: "Sequence[Tensor]") -> "dict[str, Tensor]":
    """Return ``tensors`` by the names of the parameters of ``forward``: the tool takes several inputs by name only.

    A ``forward`` with ``*args`` is replaced by one with names.
    """
    own = network.forward
    parameters = inspect.signature(own).parameters
    if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters.values()):
        network.forward = lambda **named: own(*named.values())
        return {f"argument_{index}": tensor for index, tensor in enumerate(tensors)}
    return dict(zip(parameters, tensors, strict=False))


def _patched_so_far() -> int:
    """Return what it has counted so far of the functions that it has replaced, of which it keeps two lists."""
    import torch

    return int(sum(torch.nn.functional.relu.collector) + sum(torch.add.collector))  # type: ignore[attr-defined]


def _dispatched_so_far() -> int:
    """Return what its counter of operators has counted so far."""
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    counter = _get_current_dispatch_mode()
    return int(sum(counter.flop_counts["Global"].values()))  # type: ignore[union-attr]


def _prints(macs: int) -> str:
    for unit, size in (("GMac", 10**9), ("MMac", 10**6), ("KMac", 10**3)):
        if macs >= size:
            return f"{round(macs / size, 2)} {unit}"
    return f"{macs} Mac"


PYTORCH = Tool(
    name="ptflops-pytorch",
    distribution="ptflops",
    version="0.7.5",
    source="ptflops/pytorch_engine.py and pytorch_ops.py",
    rule=_pytorch_rule,
    params_rule=frozen_parameters,
    run=partial(_run, backend="pytorch"),
    prints=_prints,
)
ATEN = replace(
    PYTORCH,
    name="ptflops-aten",
    source="ptflops/aten_engine.py and aten_ops.py",
    rule=_aten_rule,
    run=partial(_run, backend="aten"),
    reads_dispatched_on_cpu=True,
)

"""``ptflops`` (0.7.5), backend ``pytorch``: hooks on known classes, averaged over the batch, plus patched functions."""

from collections.abc import Collection, Iterator, Sequence
from math import prod

from mpvit.operations import Shape
from mpvit.reconcile import Rule, Term, left_out, without_frozen
from mpvit.reconcile.recurrent import Recurrent, recurrent
from mpvit.trace import Call, Module, ModuleCall, PatchedCall, Trace

_MULTIPLYING = ("Linear", *(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3)))
_NORMS = (*(f"{norm}Norm{axes}d" for norm in ("Batch", "Instance") for axes in (1, 2, 3)), "GroupNorm", "LayerNorm")
_ACTIVATIONS = ("ReLU", "PReLU", "ELU", "LeakyReLU", "ReLU6", "GELU")
_POOLS = tuple(f"{kind}{axes}d" for kind in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool") for axes in (1, 2, 3))
_ATTENTION = "MultiheadAttention"

_STATES = {"RNN": 1, "GRU": 7, "LSTM": 10}
"""Products and sums a hidden number and step beside weights and biases."""

_POOLED = (f"{kind}_pool{axes}d" for kind in ("avg", "max", "adaptive_avg", "adaptive_max") for axes in (1, 2, 3))

_ACTIVATION = ("functions of activations", "1 an element, also where a hooked module calls the function")
_POOLING = ("functions of pooling", "1 an input element, also where a hooked module calls the function")
_UPSAMPLING = ("functions of upsampling", "1 an output element, also where a hooked module calls it")
_PRODUCT = ("broadcast or added product", "left operand times columns, and the addend")
_ELEMENTWISE = ("elementwise functions", "torch.add and torch.mul, 1 an element; + and * are not seen")

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
"""The functions that it replaces, by namespace and name, with what it counts of them; one held by reference is not met."""


def _macs(trace: Trace) -> Iterator[Term]:
    batch = trace.input_shapes[0][0] if len(trace.input_shapes) == 1 and trace.input_shapes[0] else 1
    patched: dict[tuple[str, str], float] = {}
    products: set[int] = set()
    for seen in trace.patched_calls:
        if kind := _PATCHED[seen.namespace].get(seen.operator):
            patched[kind] = patched.get(kind, 0) + _patched(seen)
            if kind == _PRODUCT and seen.call is not None:
                products.add(seen.call)
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
    """Yield what hooks count, and the terms by which that differs; ``products`` are the calls that it sees patched."""
    for index, call in enumerate(trace.calls):
        module = trace.modules[call.module]
        counted, terms = _hooked(call, module)
        again = (len(module.names) - 1) * counted
        yield counted + again, [*terms, Term("shared modules", again, "a module's total is added under each of its names")]
        if module.type not in _MULTIPLYING and index not in products:
            yield 0, left_out([call], "neither a module of a class that it hooks nor a function that it patches")
    for module_call in trace.module_calls:
        module = trace.modules[module_call.module]
        if module.type == _ATTENTION:
            counted = len(module.names) * _attention(module_call, module)
            reason = "a formula of its own for nn.MultiheadAttention, softmax and scale included"
            yield counted, [Term("attention modules", counted, reason)]
        elif layer := recurrent(module):
            counted = len(module.names) * _recurrent(layer, module_call)
            yield (
                counted,
                [Term("recurrent layers", counted, "weights, biases and sums a step; both directions as the forward one")],
            )


def _hooked(call: Call, module: Module) -> tuple[int, list[Term]]:
    """Return what the hook of ``module`` counts for a call, and the terms by which that differs from its multiply-adds."""
    if module.type == "Linear":
        biases = call.elements if call.bias else 0
        return call.macs + biases, [Term("biases of linear layers", biases, "1 an output element")]
    if module.type in _MULTIPLYING and call.is_convolution:
        return _convolution(call)
    if module.type in _NORMS:
        scaled = module.type != "LayerNorm" and bool(module.parameters)  # it looks for the attribute "affine"
        amount = (1 + scaled) * prod(call.operands[0])
        return amount, [Term("norms", amount, "2 an element with scale and shift, 1 for a layer norm, whose it overlooks")]
    if module.type in _ACTIVATIONS:
        return call.elements, [Term("activations", call.elements, "1 an element")]
    if module.type in _POOLS:
        amount = prod(call.operands[0])
        return amount, [Term("pooling", amount, "1 an input element")]
    amount = prod(call.output[1:]) if module.type == "Upsample" else 0  # its hook takes the first image for the batch
    return amount, [Term("upsampling", amount, "1 an output element of the first image")]


def _convolution(call: Call) -> tuple[int, list[Term]]:
    """Return what the hook of a convolution counts, which takes the first axis for the batch, and the terms of it."""
    data, weight = call.operands[:2]
    positions = prod((data if "transpose" in call.operator else call.output)[2:])
    products = prod(weight) * data[0] * positions
    biases = data[0] * prod(call.output[1:]) if call.bias else 0
    return products + biases, [
        Term("biases of convolutions", biases, "1 an output element"),
        Term(
            "images without a batch",
            products - call.macs,
            "the first axis is taken for the batch, those from the third on for the positions",
        ),
    ]


def _patched(seen: PatchedCall) -> float:
    """Return what a patched function counts; those inside a hooked module are counted again."""
    read = prod(seen.operands[0])
    if seen.operator in ("interpolate", "upsample"):
        return _upsampled(seen)
    if seen.operator in ("addmm", "baddbmm"):
        return prod(seen.operands[1]) * seen.operands[2][-1] + (read if seen.beta else 0)
    if seen.operator in ("matmul", "mm", "bmm"):
        return read * seen.operands[1][-1]
    return _broadcast(seen.operands[:2]) if seen.operator in ("mul", "add") else read


def _upsampled(seen: PatchedCall) -> float:
    """Return the output elements: by the factors, if it is told these; several are multiplied and cut to a whole number."""
    factor, axes = seen.scale_factor, len(seen.operands[0]) - 2
    if factor is None:
        return prod(seen.output)
    return prod(seen.operands[0]) * (int(prod(factor)) if isinstance(factor, tuple) else factor**axes)


def _broadcast(shapes: Sequence[Shape]) -> int:
    """Return the larger length of each axis, multiplied, the axes lined up from the first."""
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


def _recurrent(layer: Recurrent, call: ModuleCall) -> int:
    """Return what its hook counts: the product of the first two axes is the number of steps, whatever they are."""
    step = sum(prod(each.on_input) + prod(each.on_hidden) for each in layer.forward)
    step += layer.layers * (_STATES[layer.kind] * layer.hidden + 2 * layer.bias * layer.gates * layer.hidden)
    return layer.directions * step * prod(call.inputs[0][: 1 if layer.cell else 2])


RULE = Rule(_macs, without_frozen, "ptflops/pytorch_engine.py and pytorch_ops.py")

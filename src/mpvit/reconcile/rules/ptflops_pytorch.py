"""``ptflops`` (0.7.5), backend ``pytorch``: hooks on known classes, averaged over the batch, plus patched functions.

Code that has imported a function by its name does not meet the patch, and a trace cannot tell.
"""

from collections.abc import Iterator
from math import prod

from mpvit.reconcile import Rule, Term, left_out, without_frozen
from mpvit.reconcile.recurrent import Recurrent, recurrent
from mpvit.trace import Call, Module, ModuleCall, Trace

_MULTIPLYING = ("Linear", *(f"Conv{kind}{axes}d" for kind in ("", "Transpose") for axes in (1, 2, 3)))
_NORMS = (*(f"{norm}Norm{axes}d" for norm in ("Batch", "Instance") for axes in (1, 2, 3)), "GroupNorm", "LayerNorm")
_ACTIVATIONS = ("ReLU", "PReLU", "ELU", "LeakyReLU", "ReLU6", "GELU")
_POOLS = tuple(f"{kind}{axes}d" for kind in ("MaxPool", "AvgPool", "AdaptiveMaxPool", "AdaptiveAvgPool") for axes in (1, 2, 3))
_ATTENTION = "MultiheadAttention"

_STATES = {"RNN": 1, "GRU": 7, "LSTM": 10}
"""Products and sums a hidden number and step beside weights and biases."""

_KEEPING = ("TransformerEncoderLayer", "TransformerDecoderLayer")
"""Modules that keep the activation function that they were made with, where no patch reaches it."""

_POOLED = tuple(
    f"{kind}{axes}d" for kind in ("avg_pool", "max_pool", "adaptive_avg_pool", "adaptive_max_pool") for axes in (1, 2, 3)
)
_ACTIVATED = ("relu", "prelu", "elu", "relu6", "gelu", "silu", "softmax")
_PRODUCTS = ("matmul", "mm", "bmm", "addmm", "baddbmm")
_ELEMENTWISE = ("mul", "add")


def _macs(trace: Trace) -> Iterator[Term]:
    batch = trace.input_shapes[0][0] if len(trace.input_shapes) == 1 and trace.input_shapes[0] else 1
    hooked = 0
    for call in trace.calls:
        module = trace.modules[call.module]
        counted, terms = _hooked(call, module)
        if module.type not in _MULTIPLYING and not (call.operator in _PRODUCTS and call.spelling in ("torch", "method")):
            yield from left_out([call], "neither a module of a class that it hooks nor a function that it patches")
        yield from terms
        if module.type not in _KEEPING:
            yield from _patched(call)
        times = len(module.names)
        yield Term("shared modules", (times - 1) * counted, "a module's total is added under each of its names")
        hooked += times * counted
    for module_call in trace.module_calls:
        module = trace.modules[module_call.module]
        estimate = 0
        if module.type == _ATTENTION:
            estimate = len(module.names) * _attention(module_call, module)
            yield Term(
                "attention modules", estimate, "a formula of its own for nn.MultiheadAttention, softmax and scale included"
            )
        elif layer := recurrent(module):
            estimate = len(module.names) * _recurrent(layer, module_call)
            yield Term("recurrent layers", estimate, "weights, biases and sums a step; both directions as the forward one")
        hooked += estimate
    yield Term(
        "averaged over the batch", hooked // batch - hooked, "what hooks count is divided by the images; functions are not"
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


def _patched(call: Call) -> Iterator[Term]:
    """Yield what a patched function counts; those inside a hooked module are counted again."""
    read = prod(call.operands[0])
    if call.spelling == "functional" and call.operator.startswith("interpolate"):
        yield Term("functions of upsampling", call.elements, "1 an output element, also where a hooked module calls it")
    elif call.spelling == "functional" and call.operator in _ACTIVATED:
        yield Term("functions of activations", read, "1 an element, also where a hooked module calls the function")
    elif call.spelling == "functional" and call.operator in _POOLED:
        yield Term("functions of pooling", read, "1 an input element, also where a hooked module calls the function")
    elif call.spelling in ("torch", "method") and call.operator in _PRODUCTS:
        left, right_operand = call.operands[-2:]
        added = prod(call.operands[0]) if call.operator in ("addmm", "baddbmm") else 0
        name = "broadcast or added product"
        yield Term(name, prod(left) * right_operand[-1] + added - call.macs, "left operand times columns, and the addend")
    elif call.spelling in ("torch", "method") and call.operator in _ELEMENTWISE:
        yield Term("elementwise functions", _broadcast(call), "torch.add and torch.mul, 1 an element; + and * are not seen")


def _broadcast(call: Call) -> int:
    """Return the larger length of each axis, multiplied, the axes lined up from the first."""
    shapes = call.operands[:2]
    axes = range(max(len(shape) for shape in shapes))
    return prod(max(shape[axis] if axis < len(shape) else 1 for shape in shapes) for axis in axes)


def _attention(call: ModuleCall, module: Module) -> int:
    if [len(shape) for shape in call.inputs[:3]] != [3, 3, 3]:
        return 0  # the tool fails on anything but (query, key, value) with a batch
    settings = dict(module.settings)
    heads, first = int(settings["num_heads"]), bool(settings.get("batch_first"))
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

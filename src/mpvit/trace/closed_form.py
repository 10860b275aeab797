"""Trace of a Multi-Path Vision Transformer, or of a detector or segmenter on it, in closed form, without torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

from mpvit.architecture.published import published_aliases, published_tree
from mpvit.network import NamedNetwork
from mpvit.operations import Block, Node, Operation, Shape
from mpvit.operations.backward import backward_macs
from mpvit.operations.conventions import dispatched_macs
from mpvit.trace import (
    ELEMENTWISE_PRODUCT,
    FUSED_ATTENTION,
    PATCHABLE,
    Call,
    DispatchedOperator,
    Module,
    ModuleCall,
    PatchedCall,
    Trace,
    renamed,
)
from mpvit.units import ITEM_BYTES

LAYOUTS = ("project", "published")
"""Module names of a trace: those of this project, or those of the published checkpoints, in which each layer registers the
position encodings of its path again."""

_OPERATORS = {
    **{kind: ("functional", kind) for kind in ("linear", "batch_norm", "layer_norm", "group_norm", "normalize", "pad")},
    **{kind: ("functional", kind) for kind in ("gelu", "hardswish", "relu", "elu")},
    **{kind: ("method", kind) for kind in ("softmax", "sum", "amax", "exp", "square", "masked_fill")},
    **{kind: ("infix", kind) for kind in ("add", "mul", "sub", "div")},
    "cat": ("torch", "cat"),
    "conv": ("functional", "conv2d"),
    "transposed": ("functional", "conv_transpose2d"),
    "matmul": ("torch", "einsum"),
    "pool": ("functional", "adaptive_avg_pool2d"),
    "sdpa": ("functional", "scaled_dot_product_attention"),
    **{f"upsample_{mode}2d": ("functional", f"interpolate {mode}") for mode in ("nearest", "bilinear")},
}
"""Call style and torch name of each kind of operation in the network's code."""

_DISPATCHED = {"conv": "convolution", "linear": "addmm", "matmul": "bmm", "sdpa": FUSED_ATTENTION}
"""Operator that torch dispatches for each kind of operation that is a sum of products."""


class _Place(NamedTuple):
    """Place of a call: its path, and the name and class of the module that makes it."""

    path: str
    module: str
    type: str


def trace_network(network: NamedNetwork, batch: int = 1, *, layout: str = "project") -> Trace:
    """Return the trace of one forward pass in float32 and evaluation mode.

    ``layout`` applies to classifiers; a detector or segmenter has the project's layout. Region features are inputs that need a
    gradient, because they are sampled from the feature pyramid. Raises ``UsageError`` for a length below 1.
    """
    tree, shapes = network.tree(batch), network.input_shapes(batch)
    if network.task or layout != "published":
        return _trace(tree, shapes)
    trace = _trace(published_tree(tree), shapes)
    names = {name: replace(module, names=published_aliases(name, network.config)) for name, module in trace.modules.items()}
    return replace(trace, modules=names)


def _trace(tree: Block, shapes: Sequence[Shape]) -> Trace:
    calls: list[Call] = []
    operations: list[Operation] = []
    module_calls: list[ModuleCall] = []
    types: dict[str, tuple[str, bool]] = {}
    parameters: dict[str, list[tuple[str, Shape]]] = {}
    for place, node in _walk(tree, "", "", _Place("", "", ""), ""):
        if isinstance(node, Block):
            types.setdefault(place.module, (place.type, False))
            module_calls.append(ModuleCall(place.path, place.module))
            continue
        types.setdefault(place.module, (place.type, bool(node.module)))
        if node.calls:
            calls.append(_call(node, place))
            operations.append(node)
            if node.module and node.weights:
                module_calls.append(ModuleCall(place.path, place.module, (node.input_shape,), node.output_shape))
        if node.params:
            parameters.setdefault(place.module, []).extend(_parameters(node))
    modules = {
        name: Module(names=(name,), type=kind, leaf=leaf, parameters=tuple(parameters.get(name, ())))
        for name, (kind, leaf) in types.items()
    }
    return Trace(
        input_shapes=tuple(shapes),
        calls=tuple(calls),
        module_calls=tuple(module_calls),
        modules=modules,
        patched_calls=tuple(_patched_calls(calls)),
        backward=_backward(calls, operations),
    )


def _backward(calls: Sequence[Call], operations: Sequence[Operation]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    for call, macs in zip(calls, backward_macs(operations), strict=True):
        found[call.path, call.operator] += macs
    return dict(+found)  # without calls that have no backward pass


def _walk(node: Node, path: str, own: str, around: _Place, scope: str) -> Iterator[tuple[_Place, Node]]:
    """Yield the place of each called module and each operation in ``node``, in order.

    ``path`` is the path of the call, ``own`` the registered name of the node, ``around`` the nearest enclosing module, and
    ``scope`` the name of the block that registers shared modules.
    """
    if node.shared:
        own = f"{scope}.{node.shared}"
        if own.startswith(f"{around.module}."):  # registered inside the caller
            path = f"{around.path}{own.removeprefix(around.module)}"
    if isinstance(node, Operation):
        yield (_Place(path, own, node.module) if node.module else around), node
        return
    if node.module and _is_called(node):
        around = _Place(path, own, node.module)
        yield around, node
    if node.scope:
        scope = own
    for name, child in node.children.items():
        yield from _walk(child, f"{path}.{name}".lstrip("."), f"{own}.{name}".lstrip("."), around, scope)


def _is_called(block: Block) -> bool:
    """Return whether a block is a call of its module, not the registration of a shared module."""
    child = next(iter(block.children.values()))
    return child.calls > 0 if isinstance(child, Operation) else _is_called(child)


def _call(operation: Operation, place: _Place) -> Call:
    call_style, operator = _OPERATORS["transposed" if operation.module == "ConvTranspose2d" else operation.kind]
    activations = (operation.input_shape, *operation.others)
    bias = operation.kind in ("conv", "linear") and len(operation.weights) > 1
    return Call(
        operator=operator,
        call_style=call_style,
        path=place.path,
        module=place.module,
        operands=(*activations, *operation.weights),
        learned=tuple(range(len(activations), len(activations) + len(operation.weights))),
        output=operation.output_shape,
        macs=operation.macs,
        dispatched=_dispatched(operation, prod(operation.output_shape) if bias else 0),
        bias=bias,
        equation=renamed(operation.equation),
        bytes_read=ITEM_BYTES["float32"] * operation.elements_read,
        bytes_written=ITEM_BYTES["float32"] * operation.elements_written,
    )


def _dispatched(operation: Operation, biases: int) -> tuple[DispatchedOperator, ...]:
    """Return the operator that the CPU runs; an einsum over an axis of length 1 is an elementwise product."""
    if not operation.macs:
        return ()
    name = _DISPATCHED[operation.kind]
    if operation.kind == "linear" and not biases:
        name = "mm"
    if operation.kind == "matmul" and not dispatched_macs(operation):
        name = ELEMENTWISE_PRODUCT
    return (DispatchedOperator(name, operation.macs, biases),)


def _patched_calls(calls: Sequence[Call]) -> Iterator[PatchedCall]:
    for index, call in enumerate(calls):
        name = call.operator.partition(" ")[0]  # the name of an upsampling ends with its mode
        if name in PATCHABLE.get(call.call_style, ()):
            yield PatchedCall(call.call_style, name, call.module, call.operands, call.output, index)


def _parameters(operation: Operation) -> list[tuple[str, Shape]]:
    """Return the parameters by name; the statistics of a batch norm are buffers and come first."""
    shapes = operation.weights[-len(operation.weight_names) :]
    return list(zip(operation.weight_names, shapes, strict=False))

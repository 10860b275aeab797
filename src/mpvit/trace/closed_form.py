"""The trace of a Multi-Path Vision Transformer from its configuration, and of what stands on one, without torch."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import NamedTuple

from mpvit import dense
from mpvit.config import ModelConfig
from mpvit.cost import network
from mpvit.dense import Task, input_shapes
from mpvit.operations import Block, Node, Operation, Shape
from mpvit.operations.backward import backward_macs
from mpvit.operations.conventions import dispatched_macs
from mpvit.published import published_aliases, published_tree
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

LAYOUTS = ("project", "published")
"""Whose module names a trace has: this project's, or those of the published checkpoints, where each layer registers its
path's position encodings again."""

_OPERATORS = {
    **{kind: ("functional", kind) for kind in ("linear", "batch_norm", "layer_norm", "group_norm")},
    **{kind: ("functional", kind) for kind in ("gelu", "hardswish", "relu")},
    **{kind: ("functional", kind) for kind in ("elu", "normalize", "pad")},
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
"""How the network spells each kind of operation, and torch's name for it."""

_DISPATCHED = {"conv": "convolution", "linear": "addmm", "matmul": "bmm", "sdpa": FUSED_ATTENTION}
"""What torch dispatches for each kind of operation that multiplies."""

_BYTES = 4
"""Of a number in float32."""


class _Place(NamedTuple):
    """Where something happens: the call's path, the module's name and class."""

    path: str
    module: str
    type: str


def trace_config(
    config: ModelConfig, batch: int, height: int, width: int, *, layout: str = "project", task: Task | None = None
) -> Trace:
    """Return the trace of one forward pass over (batch, in_channels, height, width), float32, in evaluation mode.

    With a ``task`` it is that of the detector or segmenter, in this project's layout; features of regions are further
    inputs, which take a gradient, as what is sampled from the pyramid does. Raises ``UsageError`` for a length below 1.
    """
    if task:
        return _trace(dense.network(config, task, batch, height, width), input_shapes(config, task, batch, height, width))
    tree = network(config, batch, height, width)
    if layout == "published":
        tree = published_tree(tree)
    trace = _trace(tree, [(batch, config.in_channels, height, width)])
    if layout == "published":
        names = {name: replace(module, names=_names(name, config)) for name, module in trace.modules.items()}
        return replace(trace, modules=names)
    return trace


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
        name: Module(
            names=(name,),
            type=kind,
            leaf=leaf,
            parameters=tuple(parameters.get(name, ())),
        )
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
        if macs:
            found[call.path, call.operator] += macs
    return dict(found)


def _names(module: str, config: ModelConfig) -> tuple[str, ...]:
    """Return the published names of a module of the published layout."""
    stage = module.split(".")[1:2]
    return published_aliases(module, config.stages[int(stage[0])].layers if module.startswith("mhca_stages") else 0)


def _walk(node: Node, path: str, own: str, around: _Place, scope: str) -> Iterator[tuple[_Place, Node]]:
    """Yield each module that is called and each operation below ``node``, in order, with its place.

    ``path`` is the call's, ``own`` the name under which the node is registered; ``around`` is the nearest module, ``scope``
    the name below which shared modules are.
    """
    if node.shared:
        own = f"{scope}.{node.shared}"
        if own.startswith(f"{around.module}."):  # the caller has it: there it is called by its name
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
    """Tell whether a block is a call of its module, not the registration of one that others share."""
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
        bytes_read=_BYTES * operation.elements_read,
        bytes_written=_BYTES * operation.elements_written,
    )


def _dispatched(operation: Operation, biases: int) -> tuple[DispatchedOperator, ...]:
    """Return what the CPU's dispatcher makes of it: an einsum over an axis of length 1 is an elementwise product."""
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
        name = call.operator.partition(" ")[0]  # that of upsampling has its mode behind it
        if name in PATCHABLE.get(call.call_style, ()):
            yield PatchedCall(call.call_style, name, call.module, call.operands, call.output, index)


def _parameters(operation: Operation) -> list[tuple[str, Shape]]:
    """Return what is learned, by name; a batch norm's statistics, which it reads too, are not."""
    shapes = operation.weights[-len(operation.weight_names) :]
    return list(zip(operation.weight_names, shapes, strict=False))

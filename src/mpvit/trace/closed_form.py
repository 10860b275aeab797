"""The trace of a Multi-Path Vision Transformer from its configuration, without torch."""

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from mpvit.config import ModelConfig
from mpvit.cost import network
from mpvit.operations import Node, Operation, Shape, dispatched_macs
from mpvit.published import published_modules
from mpvit.trace import Call, Module, Trace

LAYOUTS = ("project", "published")
"""Whose module names a trace has: this project's, or those of the published checkpoints, where each layer registers its
path's position encodings again."""

_OPERATORS = {"conv": "conv2d", "matmul": "einsum", "pool": "adaptive_avg_pool2d", "sdpa": "scaled_dot_product_attention"}
"""Torch's names of operations, where they are not ours."""

_BYTES = 4
"""Of a number in float32."""


class _Place(NamedTuple):
    """Where an operation happens: the call's path, the module's name and class."""

    path: str
    module: str
    type: str


def trace_config(config: ModelConfig, batch: int, height: int, width: int, *, layout: str = "project") -> Trace:
    """Return the trace of one forward pass over (batch, in_channels, height, width), float32, in evaluation mode.

    Raises ``UsageError`` for a length below 1.
    """
    tree = network(config, batch, height, width)
    calls: list[Call] = []
    types: dict[str, str] = {}
    parameters: dict[str, list[Shape]] = {}
    for place, operation in _walk(tree, "", "", _Place("", "", tree.module), ""):
        types.setdefault(place.module, place.type)
        if operation.calls:
            calls.append(_call(operation, place))
        if operation.params:
            parameters.setdefault(place.module, []).extend(_parameters(operation))
    modules = {
        name: Module(
            published_modules(name, config) if layout == "published" else (name,), kind, tuple(parameters.get(name, ()))
        )
        for name, kind in types.items()
    }
    return Trace(((batch, config.in_channels, height, width),), tuple(calls), modules)


def _walk(node: Node, path: str, own: str, around: _Place, scope: str) -> Iterator[tuple[_Place, Operation]]:
    """Yield each operation below ``node`` with its place.

    ``path`` is the call's, ``own`` the name under which the node is registered; ``around`` is the nearest module, ``scope``
    the name below which shared modules are.
    """
    if node.shared:
        own = f"{scope}.{node.shared}"
    if node.module:
        around = _Place(path, own, node.module)
    if isinstance(node, Operation):
        yield around, node
        return
    if node.scope:
        scope = own
    for name, child in node.children.items():
        yield from _walk(child, f"{path}.{name}".lstrip("."), f"{own}.{name}".lstrip("."), around, scope)


def _call(operation: Operation, place: _Place) -> Call:
    multiplies_with_weights = operation.kind in ("conv", "linear")
    return Call(
        operator=_OPERATORS.get(operation.kind, operation.kind),
        path=place.path,
        module=place.module,
        inputs=(operation.input_shape, *operation.others),
        weights=operation.weights,
        output=operation.output_shape,
        macs=operation.macs,
        dispatched_macs=dispatched_macs(operation) if operation.kind == "matmul" else operation.macs,
        bias=multiplies_with_weights and len(operation.weights) > 1,
        bytes_read=_BYTES * operation.elements_read,
        bytes_written=_BYTES * operation.elements_written,
    )


def _parameters(operation: Operation) -> list[Shape]:
    """Return the shapes of what is learned; a batch norm's statistics, which it reads too, are not."""
    shapes: list[Shape] = []
    for shape in operation.weights:
        if sum(map(prod, shapes)) < operation.params:
            shapes.append(shape)
    return shapes

"""The closed form: exact for any configuration, batch and image size, without torch."""

from typing import Any

from mpvit.config import ModelConfig
from mpvit.cost import network, parts
from mpvit.counting.results import TOTAL, Count, LayerInfo
from mpvit.errors import unknown_name
from mpvit.operations import Block, Node, Shape, walk
from mpvit.operations.conventions import tally

PARTS = ("stage", "path", "kind", "layer")


def count(name: str, config: ModelConfig, shape: Shape, convention: str) -> Count:
    """Count the whole network on an input of ``shape`` (B, C, H, W)."""
    return _count(name, shape, convention, _tree(config, shape))


def count_parts(name: str, config: ModelConfig, shape: Shape, convention: str, by: str) -> list[Count]:
    """Count each part of the network; ``by`` is stage, path, kind or layer, any other raises ``UsageError``."""
    if by not in PARTS:
        raise unknown_name("part", by, PARTS)
    tree = _tree(config, shape)
    pieces = parts(tree, by) if by in ("stage", "path") else operations_by(tree, by)
    return [_count(name, shape, convention, node, part, by) for part, node in pieces.items()]


def operations_by(tree: Block, by: str) -> dict[str, Node]:
    """Gather a tree's operations by their ``kind``, or by the ``layer`` that they are calls of."""
    return {**(_by_kind(tree) if by == "kind" else _by_layer(tree))}


def figures(node: Node, convention: str, by: str = "") -> dict[str, Any]:
    """Return the fields of a ``Count`` that ``node`` decides; ``by`` is how it was cut off, if it was."""
    counted = tally(node, convention)
    return {
        "params": counted.cost.params,
        "macs": counted.cost.macs,
        "activations": counted.cost.activations,
        "by_kind": counted.by_kind,
        "not_counted": counted.not_counted,
        "layer": _layer(node) if by == "layer" else None,
    }


def _tree(config: ModelConfig, shape: Shape) -> Block:
    batch, _, height, width = shape
    return network(config, batch, height, width)


def _count(name: str, shape: Shape, convention: str, node: Node, part: str = TOTAL, by: str = "") -> Count:
    found = figures(node, convention, by)
    return Count(model=name, input_shape=shape, counter="analytic", convention=convention, part=part, **found)


def _by_kind(tree: Block) -> dict[str, Block]:
    kinds: dict[str, Block] = {}
    for path, _, operation in walk(tree):
        kinds.setdefault(operation.kind, Block()).children[path] = operation
    return kinds


def _by_layer(tree: Block) -> dict[str, Block]:
    """Gather the calls of each layer under the name of its module; a shared one has several."""
    layers: dict[str, Block] = {}
    for path, module, operation in walk(tree):
        layers.setdefault(module, Block()).children[path] = operation
    return layers


def _layer(node: Node) -> LayerInfo:
    calls = [call for _, _, call in walk(node)]
    first = calls[0]
    return LayerInfo(first.kind, first.input_shape, first.output_shape, sum(call.calls for call in calls))

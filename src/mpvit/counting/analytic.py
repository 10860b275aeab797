"""The closed form: exact for any configuration, batch and image size, without torch."""

from mpvit.config import ModelConfig
from mpvit.cost import network, parts
from mpvit.counting.results import Count, Layer
from mpvit.errors import unknown_name
from mpvit.operations import Block, Node, Shape, walk
from mpvit.operations.conventions import tally

PARTS = ("stage", "path", "kind", "layer")


def count(name: str, config: ModelConfig, shape: Shape, convention: str) -> Count:
    """Count the whole network on an input of ``shape`` (B, C, H, W)."""
    return _count(name, shape, convention, _tree(config, shape))


def count_parts(name: str, config: ModelConfig, shape: Shape, convention: str, by: str) -> list[Count]:
    """Count each part of the network; ``by`` is stage, path, kind or layer, any other raises ``UsageError``."""
    tree = _tree(config, shape)
    if by in ("stage", "path"):
        return [_count(name, shape, convention, node, part) for part, node in parts(tree, by).items()]
    if by == "kind":
        return [_count(name, shape, convention, node, part) for part, node in _by_kind(tree).items()]
    if by == "layer":
        return [_count(name, shape, convention, block, part, _layer(block)) for part, block in _by_layer(tree).items()]
    raise unknown_name("part", by, PARTS)


def _tree(config: ModelConfig, shape: Shape) -> Block:
    batch, _, height, width = shape
    return network(config, batch, height, width)


def _count(name: str, shape: Shape, convention: str, node: Node, part: str = "total", layer: Layer | None = None) -> Count:
    counted = tally(node, convention)
    return Count(
        model=name,
        input_shape=shape,
        counter="analytic",
        convention=convention,
        part=part,
        params=counted.cost.params,
        macs=counted.cost.macs,
        activations=counted.cost.activations,
        by_kind=counted.by_kind,
        not_counted=counted.not_counted,
        layer=layer,
    )


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


def _layer(block: Block) -> Layer:
    calls = [call for _, _, call in walk(block)]
    first = calls[0]
    return Layer(first.kind, first.input_shape, first.output_shape, sum(call.calls for call in calls))

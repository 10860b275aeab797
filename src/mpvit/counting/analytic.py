"""The closed form: exact for any configuration, batch and image size, without torch."""

from mpvit import dense
from mpvit.architecture import closed_form
from mpvit.counting.results import TOTAL, Count, LayerInfo
from mpvit.errors import unknown_name
from mpvit.network import NamedNetwork
from mpvit.operations import Block, Node, walk
from mpvit.operations.conventions import tally

PARTS = ("stage", "path", "kind", "layer")
"""The ways to cut any network into parts."""

PART = "part"
"""The way to cut a detector or segmenter into the backbone and each part of the head."""


def count(network: NamedNetwork, batch: int, convention: str) -> Count:
    """Count the whole network."""
    return _count(network, batch, convention, network.tree(batch))


def count_parts(network: NamedNetwork, batch: int, convention: str, by: str) -> list[Count]:
    """Count each part of the network; raise ``UsageError`` for a cut that it does not have."""
    known = (PART, *PARTS) if network.task else PARTS
    if by not in known:
        raise unknown_name("part", by, known)
    tree = network.tree(batch)
    return [_count(network, batch, convention, node, part, by) for part, node in _pieces(network, tree, by).items()]


def _pieces(network: NamedNetwork, tree: Block, by: str) -> dict[str, Node]:
    if by in ("kind", "layer"):
        return _gathered(tree, by)
    return dense.cut(tree, by) if network.task else closed_form.parts(tree, by)


def _gathered(tree: Block, by: str) -> dict[str, Node]:
    """Return the operations of each kind, or the calls of each layer under the name of its module."""
    pieces: dict[str, Block] = {}
    for path, module, operation in walk(tree):
        pieces.setdefault(operation.kind if by == "kind" else module, Block({})).children[path] = operation
    return {**pieces}


def _count(network: NamedNetwork, batch: int, convention: str, node: Node, part: str = TOTAL, by: str = "") -> Count:
    counted = tally(node, convention)
    return Count.of(
        network,
        batch,
        "analytic",
        convention,
        part=part,
        params=counted.cost.params,
        macs=counted.cost.macs,
        activations=counted.cost.activations,
        by_kind=counted.by_kind,
        not_counted=counted.not_counted,
        layer=_layer(node) if by == "layer" else None,
    )


def _layer(node: Node) -> LayerInfo:
    calls = [call for _, _, call in walk(node)]
    first = calls[0]
    return LayerInfo(first.kind, first.input_shape, first.output_shape, sum(call.calls for call in calls))

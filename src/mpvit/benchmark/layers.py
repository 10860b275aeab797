"""The layers of a network as cases to time: each is called separately, with the input that it has in a pass of the network.

Hooks around the layers of a pass would be timed too, and on a GPU they would wait for the device at each layer. A separate
layer finds its input and weights in the cache if they fit, so its time is a lower limit. Operations between layers (residual
additions, concatenation, layout changes, pooling) belong to no layer: they take the rest of the time of the network.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from mpvit.architecture.config import FIRST_STAGE
from mpvit.benchmark.roofline import Work, operations_work
from mpvit.measurement.timing import Case
from mpvit.model.layers import Attention
from mpvit.model.network import MPViT
from mpvit.operations import Block, Node, Operation, Shape, walk

_ATTEND = "attend"
_SHARED = {"cpe": "position encoding", "crpe": "relative encoding"}
"""Modules that the layers of a path share, each timed as a whole, with their kinds."""


class LayerCase(NamedTuple):
    """Equal layers of a network as one case; ``work`` is the work of one of the ``calls`` calls."""

    part: str
    kind: str
    input_shape: Shape
    work: Work
    call: Case
    calls: int = 1


def layer_cases(model: MPViT, images: Tensor, tree: Block, dtype: str) -> list[LayerCase]:
    """Return the layers of ``model`` in the order of the pass: modules with parameters, activation functions and attention.

    ``tree`` is the tree of the network (``mpvit.network.NamedNetwork.tree``) for these images.
    """
    found: dict[tuple[str, Shape], LayerCase] = {}
    calls = list(_layer_calls(tree))
    inputs = _inputs(model, images, {module for _, module, _ in calls})
    for path, name, node in calls:
        operations = [operation for _, _, operation in walk(node)]
        part, shape = _part(path), operations[0].input_shape
        if known := found.get((part, shape)):
            found[part, shape] = known._replace(calls=known.calls + 1)
            continue
        module = model.get_submodule(name)
        work = operations_work([operation._replace(calls=1) for operation in operations], dtype)
        found[part, shape] = LayerCase(part, _kind(path, node, module), shape, work, _case(module, inputs[name]))
    return list(found.values())


def _layer_calls(node: Node, path: str = "") -> Iterator[tuple[str, str, Node]]:
    """Yield (path of the call, path of the module, node) for each layer that is called and has a module."""
    name = path.rpartition(".")[2]
    if name == _ATTEND:
        yield path, path.rpartition(".")[0], node
    elif name in _SHARED:
        if ".layers." in path:  # elsewhere it is registered, not called
            yield path, f"{path.partition('.layers.')[0]}.{name}", node
    elif isinstance(node, Operation):
        if node.params or node.module:
            yield path, path, node
    else:
        for child, inner in node.children.items():
            yield from _layer_calls(inner, f"{path}.{child}" if path else child)


def _inputs(model: MPViT, images: Tensor, names: set[str]) -> dict[str, tuple[object, ...]]:
    """Return the arguments of the last call of each module in one pass over ``images``."""
    inputs: dict[str, tuple[object, ...]] = {}

    def record(name: str, _: nn.Module, arguments: tuple[object, ...]) -> None:
        inputs[name] = arguments

    with ExitStack() as hooks, torch.inference_mode():
        for name in names:
            hooks.callback(model.get_submodule(name).register_forward_pre_hook(partial(record, name)).remove)
        model(images)
    return inputs


@torch.inference_mode()
def _case(module: nn.Module, arguments: tuple[object, ...]) -> Case:
    """Return a call of a module on its input; for attention, a call of the operations between its two linear layers."""
    if not isinstance(module, Attention):
        return torch.inference_mode()(lambda: module(*arguments))
    tokens, grid, _ = arguments
    assert isinstance(tokens, Tensor) and isinstance(grid, tuple)  # noqa: S101, PT018 - as its forward is declared
    sizes = module.sizes._replace(batch=len(tokens), height=grid[0], width=grid[1])
    joined = rearrange(module.qkv(tokens), "b n (three heads d) -> three b heads n d", three=3, heads=sizes.heads)
    query, key, value = joined
    own = {name: tensor for name, tensor in {**module._parameters, **module._buffers}.items() if tensor is not None}  # noqa: SLF001
    return torch.inference_mode()(lambda: module.kind.attend(query, key, value, sizes, own))


def _part(path: str) -> str:
    """Return the name of a layer: its stage, as the paper counts, and its path inside the layer, as in "stage 2 mlp.expand"."""
    stage = re.match(r"stages\.(\d+)\.(paths\.\d+\.)?(layers\.\d+\.)?", path)
    return f"stage {int(stage[1]) + FIRST_STAGE} {path[stage.end() :]}" if stage else path


def _kind(path: str, node: Node, module: nn.Module) -> str:
    """Return the kind of the operation; depthwise convolutions have their own, as their limiting ceiling differs."""
    if not isinstance(node, Operation):
        return _SHARED.get(path.rpartition(".")[2], "attention")
    if isinstance(module, nn.Conv2d):
        return "depthwise conv" if module.groups > 1 else "conv"
    return node.kind.replace("_", " ")

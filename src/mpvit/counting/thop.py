"""thop: hooks on modules. It sees no einsum, and counts a norm at 4 MACs an element.

It keeps hooks and buffers on the model that it is given, so it only ever gets a throwaway one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mpvit.config import ModelConfig
from mpvit.cost import network
from mpvit.counting.isolation import fresh_model, isolated, throwaway
from mpvit.counting.results import Count, Counted
from mpvit.operations import Shape, walk

_KINDS = {nn.Conv2d: "conv", nn.Linear: "linear", nn.BatchNorm2d: "batch_norm", nn.LayerNorm: "layer_norm"}
_FUNCTIONS = ("matmul", "softmax", "add", "mul", "pool")
"""The kinds of operation that are no module of this network, so that no hook sees them."""


def count(name: str, config: ModelConfig, shape: Shape, convention: str) -> Count:
    """Count on an input of ``shape`` (B, C, H, W)."""
    with isolated("thop"):
        from thop import profile
        from thop.profile import register_hooks

        model = fresh_model(config, "cpu")
        leaves = {path: module for path, module in model.named_modules() if not list(module.children())}
        macs, params, layers = profile(model, (torch.zeros(shape),), verbose=False, ret_layer_info=True)
        by_kind: Counter[str] = Counter()
        for path, module_macs in _leaf_macs(layers):
            if module_macs:
                by_kind[_KINDS[type(leaves[path])]] += int(module_macs)
        missed = Counter(type(module).__name__ for module in leaves.values() if type(module) not in register_hooks)
        batch, _, height, width = shape
        operations = [operation for _, _, operation in walk(network(config, batch, height, width))]
        functions = Counter(operation.kind for operation in operations if operation.kind in _FUNCTIONS)
        return Count(
            model=name,
            input_shape=shape,
            counter="thop",
            convention=convention,
            params=int(params),
            macs=int(macs),
            activations=None,
            by_kind=dict(by_kind),
            not_counted=dict(missed + functions),
        )


def _leaf_macs(layers: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Flatten thop's nested (macs, params, children) by name into (path, macs) of the leaves."""
    found: list[tuple[str, float]] = []
    for name, (macs, _, children) in layers.items():
        found += _leaf_macs(children, f"{prefix}{name}.") if children else [(prefix + name, macs)]
    return found


def run(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module, on the CPU."""
    with isolated("thop"):
        from thop import profile

        network, tensors = throwaway(model, inputs, "cpu")
        macs, params, layers = profile(network, tuple(tensors), verbose=False, ret_layer_info=True)
        return Counted(int(macs), int(params), dict(_own_macs("", macs, layers)))


def _own_macs(path: str, macs: float, layers: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the path and the multiply-adds of each module alone, from thop's nested (macs, params, children) by name."""
    yield path, int(macs - sum(below for below, _, _ in layers.values()))
    for name, (below, _, children) in layers.items():
        yield from _own_macs(f"{path}.{name}".lstrip("."), below, children)

"""The recorded tree against the network: the same modules, shapes, parameters and calls."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from recorded import assert_layers_are_recorded
from strategies import configs, shapes
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.architecture.closed_form import network, parts
from mpvit.errors import UsageError
from mpvit.model.layers import DropPath
from mpvit.operations import Block, Cost, Node, walk
from mpvit.operations.conventions import CONVENTIONS, tally


@settings(max_examples=15)
@given(configs(), shapes())
def test_each_layer_is_recorded_under_the_name_of_its_module(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    with torch.device("meta"), torch.inference_mode():
        model, image = build_model(config).eval(), torch.empty(batch, config.in_channels, height, width)
        assert_layers_are_recorded(model, [image], network(config, *shape))


SMALL = ModelConfig((StageConfig(2, 2, 8, 2, 2), StageConfig(1, 1, 12, 4, 2)), num_classes=3)


def small(**fields: Any) -> ModelConfig:  # noqa: ANN401
    return replace(SMALL, stages=tuple(replace(stage, **fields) for stage in SMALL.stages))


NOT_RECORDED = (nn.ModuleList, DropPath)
"""Classes of modules that are not part of the tree."""

NETWORKS = [
    SMALL,
    small(local=False, cpe=False, crpe_windows=(), attention="softmax"),
    small(fusion="sum", patch_embed="parallel"),
    replace(SMALL, num_classes=0),
]
FUNCTIONS = {"conv2d": "conv", "einsum": "matmul", "adaptive_avg_pool2d": "pool"}
FUNCTIONS |= {
    name: name for name in ("linear", "batch_norm", "layer_norm", "gelu", "hardswish", "softmax", "add", "mul", "cat")
}


class Dispatched(TorchDispatchMode):
    """Counts the calls of functions that are recorded, by kind, number of elements read, and shape of the output."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[tuple[str, int, tuple[int, ...]]] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        output = func(*args, **(kwargs or {}))
        if kind := FUNCTIONS.get(func.overloadpacket.__name__):
            read = sum(each.numel() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor))
            self.calls[kind, read, tuple(output.shape)] += 1
        return output


@pytest.mark.parametrize("config", NETWORKS)
def test_every_operation_is_a_call_that_torch_dispatches(config: ModelConfig) -> None:
    """Both read and write the same numbers of elements, and torch dispatches nothing else except views."""
    with torch.device("meta"):
        model = build_model(config).eval()
        with torch.inference_mode(), Dispatched() as dispatched:
            model(torch.empty(2, 3, 40, 33))
    predicted: Counter[tuple[str, int, tuple[int, ...]]] = Counter()
    for _, _, operation in walk(network(config, 2, 40, 33)):
        predicted[operation.kind, operation.elements_read, operation.output_shape] += operation.calls
        assert all(type(length) is int for length in operation.output_shape)
    assert +predicted == dispatched.calls


def named_blocks(node: Node, path: str = "") -> Iterator[tuple[str, str, bool]]:
    """The path and class of each called module of a tree, and whether it is a call of a shared module."""
    if node.module:
        yield path, node.module, bool(node.shared)
    if isinstance(node, Block):
        for name, child in node.children.items():
            yield from named_blocks(child, f"{path}.{name}".lstrip("."))


@pytest.mark.parametrize("config", NETWORKS)
def test_the_tree_has_the_names_and_classes_of_the_network(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = build_model(config)
    expected = {name: type(module).__name__ for name, module in model.named_modules() if not isinstance(module, NOT_RECORDED)}
    found = {path: module for path, module, shared in named_blocks(network(config, 1, 64, 64)) if not shared}
    assert found == expected
    for _, module, operation in walk(network(config, 1, 64, 64)):
        if operation.module:
            assert type(model.get_submodule(module)).__name__ == operation.module


@pytest.mark.parametrize(("size", "tokens", "last"), [(448, 12544, 196), (112, 784, 16)])
def test_attention_for_one_size_refuses_others(size: int, tokens: int, last: int) -> None:
    config = VARIANTS["tiny"].config.with_attention("linformer")
    network(config, 1, 224, 224)
    with pytest.raises(UsageError, match=f"over {tokens} tokens in stage 2: its parameters are for 3136") as caught:
        network(config, 1, size, size)
    assert "224x224" in caught.value.hint
    config = replace(config, stages=(*VARIANTS["tiny"].config.stages[:3], config.stages[3]))
    with pytest.raises(UsageError, match=f"over {last} tokens in stage 5: its parameters are for 49"):
        network(config, 1, size, size)


@settings(max_examples=30)
@given(configs(), shapes())
def test_parts_sum_to_the_whole_network(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    tree = network(config, *shape)
    for convention in CONVENTIONS:
        whole = tally(tree, convention)
        for by in ("stage", "path"):
            pieces = [tally(part, convention) for part in parts(tree, by).values()]
            assert sum((p.cost for p in pieces), Cost()) == whole.cost
            calls = sum((Counter(p.not_counted) for p in pieces), Counter())
            assert calls == whole.not_counted


@pytest.mark.parametrize(
    ("size", "expected"),
    [  # G multiply-adds under fvcore's rules with exact einsum; tiny to base
        ((800, 1280), (33.75, 60.64, 97.95, 335.61)),
        ((512, 2048), (34.56, 62.09, 100.30, 343.66)),
    ],
)
def test_macs_for_the_images_of_detectors_and_segmenters(size: tuple[int, int], expected: tuple[float, ...]) -> None:
    found = [tally(network(variant.config, 1, *size), "exact").cost.macs / 1e9 for variant in VARIANTS.values()]
    assert found == pytest.approx(expected, abs=0.005)


def test_cost_is_linear_in_the_batch() -> None:
    config = VARIANTS["tiny"].config
    one, five = (tally(network(config, batch, 224, 224), "exact").cost for batch in (1, 5))
    assert five == Cost(one.params, 5 * one.macs, 5 * one.activations)


@pytest.mark.parametrize("what", ["batch", "height", "width"])
def test_length_below_one_is_refused(what: str) -> None:
    lengths = {"batch": 1, "height": 1, "width": 1, what: 0}
    with pytest.raises(UsageError, match=f"{what} = 0"):
        network(VARIANTS["tiny"].config, **lengths)


def changed(**fields: Any) -> dict[str, Node]:  # noqa: ANN401
    """The parts of tiny at 224x224, by path, with fields of each stage changed."""
    config = VARIANTS["tiny"].config
    stages = tuple(replace(stage, **fields) for stage in config.stages)
    return parts(network(replace(config, stages=stages), 1, 224, 224), "path")


PUBLISHED = changed()
NEW_PARAMS = [  # in stage 4: 176 channels, 3 paths, 4 layers, 14x14 tokens; its fusion has 216 output channels
    ({"local": False}, "fusion", -176 * 216),
    ({"cpe": False}, "path 2", -(9 + 1) * 176),
    ({"crpe_windows": ()}, "path 2", -22 * (2 * (9 + 1) + 3 * (25 + 1) + 3 * (49 + 1))),
    ({"fusion": "sum"}, "fusion", -3 * 176 * 216),
    ({"fusion": "sum"}, "local", 0),
    ({"patch_embed": "parallel"}, "path 1", 0),
    ({"patch_embed": "parallel"}, "path 2", (25 - 9) * 176),
    ({"patch_embed": "parallel"}, "path 3", (49 - 9) * 176),
]


@pytest.mark.parametrize(("fields", "part", "more"), NEW_PARAMS)
def test_parameters_of_a_changed_stage(fields: dict[str, Any], part: str, more: int) -> None:
    name = f"stage 4 {part}"
    assert tally(changed(**fields)[name], "exact").cost.params == tally(PUBLISHED[name], "exact").cost.params + more


def test_stage_without_local_branch_has_no_such_part() -> None:
    assert [name for name in PUBLISHED if name not in changed(local=False)] == [f"stage {n} local" for n in (2, 3, 4, 5)]


def test_fusion_by_sum_has_fewer_macs_and_more_additions() -> None:
    """Stage 4 joins 4 maps of 14x14 positions: the fusion has a quarter of the input channels and needs 3 additions."""
    sums, concatenated = (tally(found["stage 4 fusion"], "matmul") for found in (changed(fusion="sum"), PUBLISHED))
    assert concatenated.cost.macs - sums.cost.macs == 3 * 176 * 216 * 14 * 14
    assert (sums.not_counted["add"], concatenated.not_counted["cat"]) == (3, 1)


def test_layers_of_a_path_are_one_object() -> None:
    """A count takes the same time at any depth."""
    config = VARIANTS["base"].config
    layers = network(config, 1, 224, 224).block("stages").block("2").block("paths").block("0").block("layers").children
    assert len(layers) == 8
    assert len({id(layer) for layer in layers.values()}) == 1

"""Detectors and segmenters: the closed form against the built network, torch and fvcore, and the published figures."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from chosen import chosen
from dense_networks import SMALL, inputs, task_of
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import assert_layers_are_recorded
from strategies import configs
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mpvit import VARIANTS, ModelConfig
from mpvit.dense import TASKS, Task, build, cut, get_tasks, network
from mpvit.dense.published import CONVENTION, PUBLISHED, PublishedTask
from mpvit.dense.torch_network import empty_network
from mpvit.errors import UsageError
from mpvit.operations import Cost
from mpvit.operations.conventions import CONVENTIONS, tally
from mpvit.user_model.isolation import isolated

FIVE_MAPS_OF_97_BY_65 = [(13, 9), (7, 5), (4, 3), (2, 2), (1, 1)]


# ── the closed form, the network and two tools ──────────────────────────────────────────────────────────────────────


def assert_torch_counts_the_same(config: ModelConfig, task: Task, shape: tuple[int, int, int]) -> None:
    closed = tally(network(config, task, *shape), "matmul")
    with torch.device("meta"), torch.no_grad():
        built, tensors = build(config, task).eval(), inputs(config, task, shape)
        with FlopCounterMode(display=False) as counter:
            built(*tensors)
    assert closed.cost.macs == counter.get_total_flops() // 2
    assert closed.cost.params == sum(parameter.numel() for parameter in built.parameters())


def assert_fvcore_counts_the_same(config: ModelConfig, task: Task, shape: tuple[int, int, int]) -> None:
    closed = tally(network(config, task, *shape), "fvcore")
    with isolated("fvcore"), torch.no_grad():
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, parameter_count

        built, tensors = empty_network(config, "cpu", task), inputs(config, task, shape)
        kinds = FlopCountAnalysis(built, tensors).by_operator()
        activations = ActivationCountAnalysis(built, tensors).total()
        found = Cost(parameter_count(built)[""], int(sum(kinds.values())), int(activations))
    assert found == closed.cost
    kinds_here = {"einsum": "matmul", "adaptive_avg_pool2d": "pool"}
    assert {kinds_here.get(kind, kind): macs for kind, macs in kinds.items()} == {k: m for k, m in closed.by_kind.items() if m}


SIZES = [(97, 65), (31, 130), (1, 3)]


@pytest.mark.parametrize("size", chosen(SIZES, (31, 130)))
@pytest.mark.parametrize("name", TASKS)
def test_torch_counts_the_same_as_the_closed_form(name: str, size: tuple[int, int]) -> None:
    assert_torch_counts_the_same(SMALL, task_of(name, classes=7), (2, *size))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", TASKS)
def test_fvcore_counts_the_same_as_the_closed_form(name: str, size: tuple[int, int]) -> None:
    assert_fvcore_counts_the_same(SMALL, task_of(name, classes=7), (2, *size))


@pytest.mark.slow
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda row: f"{row.task} {row.variant}")
def test_torch_counts_the_same_for_the_published_networks(published: PublishedTask) -> None:
    task = TASKS[published.task]
    assert_torch_counts_the_same(published.config, task, (1, *task.size))


shapes = st.tuples(st.integers(1, 2), st.integers(1, 50), st.integers(1, 50))


@pytest.mark.slow
@settings(max_examples=20)
@given(configs(fewest_stages=4, most_stages=4), shapes, st.integers(1, 30), st.sampled_from(list(TASKS)))
def test_both_tools_count_the_same_for_random_networks(
    config: ModelConfig, shape: tuple[int, int, int], classes: int, traced: str
) -> None:
    """Torch counts every task; fvcore, whose trace takes seconds, counts one of them."""
    for name in TASKS:
        assert_torch_counts_the_same(config, task_of(name, classes=classes), shape)
    assert_fvcore_counts_the_same(config, task_of(traced, classes=classes), shape)


@pytest.mark.parametrize("name", TASKS)
def test_each_layer_is_recorded_under_the_name_of_its_module(name: str) -> None:
    task, shape = task_of(name, classes=3), (2, 97, 65)
    with torch.device("meta"), torch.inference_mode():
        assert_layers_are_recorded(build(SMALL, task).eval(), inputs(SMALL, task, shape), network(SMALL, task, *shape))


@pytest.mark.parametrize("by", ["part", "stage", "path"])
@pytest.mark.parametrize("name", TASKS)
def test_parts_sum_to_the_whole_network(name: str, by: str) -> None:
    tree = network(VARIANTS["tiny"].config, TASKS[name], 1, 97, 65)
    for convention in CONVENTIONS:
        pieces = [tally(part, convention).cost for part in cut(tree, by).values()]
        assert sum(pieces, Cost()) == tally(tree, convention).cost


# ── published figures ───────────────────────────────────────────────────────────────────────────────────────────────

TABLES = {  # millions of parameters, billions of "FLOPs"; tables 2 to 4 of the paper
    ("retinanet", "tiny"): (17, 196),
    ("retinanet", "xsmall"): (20, 211),
    ("retinanet", "small"): (32, 248),
    ("retinanet", "base"): (85, 482),
    ("mask-rcnn", "tiny"): (28, 216),
    ("mask-rcnn", "xsmall"): (30, 231),
    ("mask-rcnn", "small"): (43, 268),
    ("mask-rcnn", "base"): (95, 503),
    ("upernet", "small"): (52, 943),
    ("upernet", "base"): (105, 1185),
}


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda row: f"{row.task} {row.variant}")
def test_counts_round_to_the_published_figures(published: PublishedTask) -> None:
    task = TASKS[published.task]
    params, billions = TABLES[published.task, published.variant]
    cost = tally(network(published.config, task, 1, *task.size), CONVENTION).cost
    assert (published.params_millions, published.macs_billions) == (params, billions)
    assert round(cost.params / 1e6) == params
    assert (round(cost.macs / 1e9) == billions) is published.explained


def test_no_convention_explains_the_published_macs_of_upernet_on_base() -> None:
    (row,) = (row for row in PUBLISHED if not row.explained)
    assert (row.task, row.variant, len(PUBLISHED)) == ("upernet", "base", len(TABLES))
    task = TASKS["upernet"]
    tree = network(row.config, task, 1, *task.size)
    assert all(round(tally(tree, convention).cost.macs / 1e9) > row.macs_billions for convention in CONVENTIONS)


@pytest.mark.parametrize(("name", "params", "billions"), [("retinanet", 15.10, 184.35), ("mask-rcnn", 25.71, 203.61)])
def test_published_detectors_on_tiny_have_another_backbone_than_the_classifier(
    name: str, params: float, billions: float
) -> None:
    task = TASKS[name]
    cost = tally(network(VARIANTS["tiny"].config, task, 1, *task.size), CONVENTION).cost
    assert (cost.params / 1e6, cost.macs / 1e9) == pytest.approx((params, billions), abs=0.005)
    published = TABLES[name, "tiny"]
    assert round(cost.params / 1e6) != published[0]
    assert round(cost.macs / 1e9) != published[1]


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────────


def outputs_of(name: str, classes: int, *, regions: bool = True, training: bool = False) -> Any:  # noqa: ANN401
    task = task_of(name, classes=classes)
    image, *features = inputs(SMALL, task, (2, 97, 65))
    torch.manual_seed(0)
    with torch.inference_mode():
        return build(SMALL, task).train(training)(image, *(features if regions else ()))


def test_retinanet_returns_classes_and_boxes_of_every_level() -> None:
    found = outputs_of("retinanet", 7)
    assert [tuple(x.shape) for x in found.classes] == [(2, 9 * 7, *grid) for grid in FIVE_MAPS_OF_97_BY_65]
    assert [tuple(x.shape) for x in found.boxes] == [(2, 36, *grid) for grid in FIVE_MAPS_OF_97_BY_65]


def test_mask_rcnn_returns_proposals_and_predictions_for_given_regions() -> None:
    found, grids = outputs_of("mask-rcnn", 7), [(25, 17), *FIVE_MAPS_OF_97_BY_65[:4]]
    assert [tuple(x.shape) for x in found.maps] == [(2, 256, *grid) for grid in grids]
    assert [tuple(x.shape) for x in found.objectness] == [(2, 3, *grid) for grid in grids]
    assert [tuple(x.shape) for x in found.offsets] == [(2, 12, *grid) for grid in grids]
    assert [tuple(x.shape) for x in (found.classes, found.boxes)] == [(10, 8), (10, 28)]
    assert tuple(found.masks.shape) == (4, 7, 28, 28)
    proposals = outputs_of("mask-rcnn", 7, regions=False)
    assert proposals._fields == ("maps", "objectness", "offsets")
    assert torch.equal(proposals.maps[4], proposals.maps[3][:, :, ::2, ::2])


@pytest.mark.parametrize("name", ["upernet", "segformer", "semantic-fpn"])
def test_segmenters_return_logits_of_every_pixel(name: str) -> None:
    assert tuple(outputs_of(name, 7).shape) == (2, 7, 97, 65)


def test_upernet_returns_auxiliary_logits_in_training() -> None:
    assert [tuple(x.shape) for x in outputs_of("upernet", 7, training=True)] == [(2, 7, 97, 65)] * 2


@pytest.mark.parametrize("name", TASKS)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    task = task_of(name, classes=2)
    torch.manual_seed(0)
    built = build(SMALL, task).train()
    outputs = built(*(torch.randn_like(each) for each in inputs(SMALL, task, (2, 64, 64))))
    leaves = torch.utils._pytree.tree_leaves(outputs)  # noqa: SLF001 - torch has no public way
    sum(leaf.square().sum() for leaf in leaves).backward()
    assert [path for path, p in built.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_upernet_equals_that_of_transformers_with_the_same_weights() -> None:
    from transformers import UperNetConfig
    from transformers.models.upernet.modeling_upernet import UperNetHead

    task = task_of("upernet", classes=5)
    torch.manual_seed(0)
    head = build(SMALL, task).head.eval()
    channels = [12, 4, 6, 6]
    config = UperNetConfig()
    config.num_labels = 5
    other = UperNetHead(config, channels).eval()  # type: ignore[no-untyped-call] # it has no types
    weights = [tensor for path, tensor in head.state_dict().items() if not path.startswith("auxiliary")]
    order = ["psp_modules", "bottleneck", "lateral_convs", "fpn_convs", "fpn_bottleneck", "classifier"]
    names = sorted(other.state_dict(), key=lambda path: order.index(path.split(".")[0]))
    other.load_state_dict(dict(zip(names, weights, strict=True)))
    pyramid = [torch.randn(1, c, side, side) for c, side in zip(channels, (25, 13, 7, 4), strict=True)]
    with torch.inference_mode():
        expected = nn.functional.interpolate(other(pyramid), size=(97, 98), mode="bilinear", align_corners=False)
        assert torch.allclose(head(pyramid, (97, 98)), expected, atol=1e-5)


# ── wrong arguments ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "complaint", "hint"),
    [
        ({"names": ["retinanets"]}, "unknown task 'retinanets'", "did you mean 'retinanet'?"),
        ({"names": ["upernet"], "classes": 0}, "classes = 0: must be a whole number of at least 1", ""),
        ({"names": ["mask-rcnn"], "proposals": -1}, "proposals = -1: must be a whole number of at least 1", ""),
        ({"names": ["retinanet", "mask-rcnn"], "detections": 10**7}, "detections = 10000000: must be", ""),
        ({"names": ["mask-rcnn"], "proposals": 0, "detections": 0}, "proposals = 0: must be", ""),
        (
            {"names": ["retinanet"], "proposals": 300},
            "proposals = 300: retinanet has no proposals",
            "tasks that have proposals: mask-rcnn",
        ),
    ],
)
def test_wrong_task_is_refused_with_the_value(arguments: dict[str, Any], complaint: str, hint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        get_tasks(**arguments)
    assert hint in caught.value.hint


def test_numbers_apply_to_the_tasks_that_have_them() -> None:
    tasks = get_tasks(["upernet", "mask-rcnn"], proposals=300, classes=9)
    assert [(task.proposals, task.classes) for task in tasks] == [(0, 9), (300, 9)]


def test_backbone_without_four_stages_is_refused() -> None:
    short = replace(SMALL, stages=SMALL.stages[:2])
    for make in (lambda: network(short, TASKS["upernet"], 1, 64, 64), lambda: build(short, TASKS["upernet"])):
        with pytest.raises(UsageError, match="upernet on a network of 2 stages: the network must have 4"):
            make()
    with pytest.raises(UsageError, match="height = 0"):
        network(SMALL, TASKS["upernet"], 1, 0, 64)

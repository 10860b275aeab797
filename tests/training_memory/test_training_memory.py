"""Training memory: the closed form is, to the byte, what autograd keeps on the meta device and on the CPU."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from chosen import chosen
from dense_networks import SMALL, sampled_inputs, task_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import MODELS
from strategies import configs, shapes
from torch import nn

from mpvit import VARIANTS, ModelConfig, build_model
from mpvit.attention import KINDS
from mpvit.config import ALTERNATIVES
from mpvit.dense import TASKS, Task, build, get_tasks, input_shapes
from mpvit.errors import MpvitError, UsageError
from mpvit.measurement.peak_memory import peak_bytes
from mpvit.network import NamedNetwork
from mpvit.operations.tape import Tape
from mpvit.training_memory import OPTIMIZERS, MemoryOptions, TrainingMemory
from mpvit.training_memory import live as live_memory
from mpvit.training_memory.closed_form import training_memory
from mpvit.user_model import UserModel
from mpvit.user_model.inputs import Input

NETWORK_KINDS = [kind for kind in KINDS if kind != "factorized_crpe"]
"""Inside a network, factorized attention has the path's position encoding."""

CHANGES: list[dict[str, Any]] = [{field: choices[1]} for field, choices in ALTERNATIVES.items()]
CHANGES += [{"local": False, "fusion": "sum"}, {"local": False, "cpe": False, "crpe_windows": ()}]

META_KINDS = [kind for kind in NETWORK_KINDS if kind != "sdpa"]
"""On the meta device torch has no fused attention, so that it keeps the N x N matrices there and nowhere else."""


def closed(config: ModelConfig, shape: tuple[int, int, int], *, autocast: bool = False) -> int:
    return closed_of_task(config, None, shape, autocast=autocast)


def closed_of_task(config: ModelConfig, task: Task | None, shape: tuple[int, int, int], *, autocast: bool = False) -> int:
    batch, *size = shape
    tape = Tape(training=True, autocast=autocast)
    NamedNetwork("network", config, (size[0], size[1]), task).record(tape, batch)
    return tape.saved_bytes


def kept(config: ModelConfig, shape: tuple[int, int, int], device: str, *, autocast: bool = False) -> int:
    """What autograd keeps in training mode."""
    batch, height, width = shape
    with torch.device(device):
        images = torch.zeros(batch, config.in_channels, height, width)
        return live_memory.saved_bytes(build_model(config).train(), [images], autocast=autocast)


def test_the_recorded_figure() -> None:
    assert closed(VARIANTS["tiny"].config, (1, 224, 224)) == 114_651_792


@pytest.mark.parametrize("shape", [(1, 224, 224), (2, 97, 131)])
@pytest.mark.parametrize("variant", chosen(VARIANTS, "tiny"))
def test_each_variant_keeps_that_on_the_meta_device(variant: str, shape: tuple[int, int, int]) -> None:
    config = VARIANTS[variant].config
    assert closed(config, shape) == kept(config, shape, "meta")


@pytest.mark.parametrize(
    "variant", ["tiny", *(pytest.param(each, marks=pytest.mark.slow) for each in VARIANTS if each != "tiny")]
)
def test_and_on_the_cpu(variant: str) -> None:
    config, shape = VARIANTS[variant].config, (2, 65, 49)
    assert closed(config, shape) == kept(config, shape, "cpu") == kept(config, shape, "meta")


@pytest.mark.parametrize("kind", [*META_KINDS, "window:5", "spatial_reduction:3", "performer:20"])
def test_every_kind_of_attention_keeps_that_on_the_meta_device(kind: str) -> None:
    config = ModelConfig(VARIANTS["tiny"].config.stages[:2]).with_attention(kind)
    for shape in ((1, 224, 224), (2, 224, 224) if kind == "linformer" else (2, 97, 131)):
        assert closed(config, shape) == kept(config, shape, "meta")


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_and_on_the_cpu_in_both_dtypes(kind: str, autocast: bool) -> None:  # noqa: FBT001 - a parameter of the test
    stage = VARIANTS["tiny"].config.stages[0]
    config = ModelConfig((stage,), num_classes=5, drop_path=0.1).with_attention(kind)
    shape = (2, 224, 224) if kind == "linformer" else (2, 37, 50)
    assert closed(config, shape, autocast=autocast) == kept(config, shape, "cpu", autocast=autocast)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("fields", CHANGES, ids=str)
def test_with_parts_switched_off_or_exchanged(fields: dict[str, Any], autocast: bool) -> None:  # noqa: FBT001
    stages = tuple(replace(stage, **fields) for stage in VARIANTS["tiny"].config.stages[:2])
    config, shape = ModelConfig(stages, num_classes=5, drop_path=0.1), (2, 65, 49)
    assert closed(config, shape, autocast=autocast) == kept(config, shape, "cpu", autocast=autocast)
    assert closed(config, shape) == kept(config, shape, "meta")


@settings(max_examples=10, deadline=None)
@given(configs(), shapes(), st.sampled_from(["factorized", "window:3", "spatial_reduction:2", "performer:5", *META_KINDS]))
def test_random_networks(config: ModelConfig, shape: tuple[int, int, int], kind: str) -> None:
    """Down to a single pixel, head and channel, where products and copies turn into something else."""
    config, shape = config.with_attention(kind), (1, 224, 224) if kind == "linformer" else shape
    try:
        predicted = closed(config, shape)
    except UsageError:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            kept(config, shape, "meta")
        assume(condition=False)
    assert predicted == kept(config, shape, "meta")


@settings(max_examples=5, deadline=None)
@given(configs(), shapes(), st.booleans())
def test_random_networks_on_the_cpu(config: ModelConfig, shape: tuple[int, int, int], autocast: bool) -> None:  # noqa: FBT001
    assume(shape[0] > 1)
    assert closed(config, shape, autocast=autocast) == kept(config, shape, "cpu", autocast=autocast)


@settings(max_examples=15)
@given(configs(), shapes(), st.booleans())
def test_memory_is_affine_in_the_batch_from_two_on(config: ModelConfig, shape: tuple[int, int, int], autocast: bool) -> None:  # noqa: FBT001
    second, third, far = (closed(config, (batch, *shape[1:]), autocast=autocast) for batch in (2, 3, 57))
    assert far == second + 55 * (third - second)


DEFAULT = MemoryOptions()


def predicted(name: str, *, batch: int = 1, side: int = 224, options: MemoryOptions = DEFAULT) -> TrainingMemory:
    config = VARIANTS[name].config
    return training_memory(NamedNetwork(name, config, (side, side)), batch=batch, options=options)


REAL_OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "sgd-momentum": lambda parameters: torch.optim.SGD(parameters, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_and_states_are_what_torch_allocates(name: str) -> None:
    model = build_model("tiny")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = REAL_OPTIMIZERS[name](model.parameters())
    optimizer.step()
    tensors = [leaf for state in optimizer.state.values() for leaf in state.values() if isinstance(leaf, torch.Tensor)]
    memory = predicted("tiny", options=MemoryOptions(optimizer=name))
    assert memory.optimizer_bytes == sum(tensor.nbytes for tensor in tensors)
    assert memory.parameters.gradient_bytes == memory.parameters.params_bytes == sum(p.nbytes for p in model.parameters())
    assert memory.parameters.params == VARIANTS["tiny"].published.params


@pytest.mark.parametrize(("name", "batch", "side"), [("tiny", 1, 224), ("small", 3, 64)])
def test_the_peak_is_within_4_percent_of_what_the_allocator_saw(name: str, batch: int, side: int) -> None:
    model = build_model(VARIANTS[name].config).train()
    images = torch.zeros(batch, 3, side, side)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        model(images).sum().backward()
        optimizer.step()

    step()
    lasting = [*model.parameters(), *model.parameters(), *model.parameters(), *model.buffers(), images]  # gradients, momentum
    measured = peak_bytes(step, torch.device("cpu"))
    assert measured is not None
    seen = measured + sum(tensor.nbytes for tensor in lasting)
    assert predicted(name, batch=batch, side=side, options=MemoryOptions(optimizer="sgd-momentum")).peak_bytes == pytest.approx(
        seen, rel=0.04
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("budget", [24 * 2**30, 400 * 2**20])
def test_the_largest_batch_fits_and_the_next_does_not(dtype: str, budget: int) -> None:
    largest = predicted("tiny", options=MemoryOptions(dtype, budget_bytes=budget)).largest_batch
    assert largest
    assert predicted("tiny", batch=largest, options=MemoryOptions(dtype)).peak_bytes <= budget
    assert predicted("tiny", batch=largest + 1, options=MemoryOptions(dtype)).peak_bytes > budget


def test_one_sample_may_be_all_that_fits_or_too_much() -> None:
    one = predicted("tiny").peak_bytes
    assert predicted("tiny", options=MemoryOptions(budget_bytes=one)).largest_batch == 1
    refused = predicted("tiny", options=MemoryOptions(budget_bytes=one - 1))
    assert (refused.largest_batch, refused.error) == (None, f"budget of {one - 1} bytes: one sample takes {one}")


@pytest.mark.parametrize("choice", [{"dtype": "float16"}, {"optimizer": "lion"}, {"budget_bytes": 0}])
def test_what_there_is_not(choice: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        MemoryOptions(**choice)


def user_model(name: str) -> UserModel:
    make, shape = MODELS[name]
    return UserModel(name, lambda: make().eval(), (Input(shape),))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_any_network_keeps_what_it_keeps_on_the_cpu(name: str, dtype: str) -> None:
    make, shape = MODELS[name]
    memory = live_memory.training_memory(user_model(name), MemoryOptions(dtype))
    model = make().train()
    assert memory.activations.saved_bytes == live_memory.saved_bytes(model, [torch.zeros(shape)], autocast=dtype == "bfloat16")
    assert memory.parameters.params == sum(parameter.numel() for parameter in model.parameters())


def test_what_no_call_reaches_gets_no_gradient() -> None:
    """The unused layer has 700 of the 748 parameters."""
    memory = live_memory.training_memory(user_model("unused_module"), MemoryOptions(optimizer="adam"))
    assert (memory.parameters.params_bytes, memory.parameters.gradient_bytes) == (4 * 748, 4 * 48)
    assert memory.optimizer_bytes == 2 * 4 * 48 + 4 * 3


def test_both_ways_are_one() -> None:
    config = ModelConfig(VARIANTS["tiny"].config.stages[:1])
    options = MemoryOptions(budget_bytes=2**30)
    model = UserModel("tiny", lambda: build_model(config).eval(), (Input((2, 3, 64, 96)),))
    assert live_memory.training_memory(model, options) == training_memory(
        NamedNetwork("tiny", config, (64, 96)), batch=2, options=options
    )


# ── detectors and segmenters ────────────────────────────────────────────────────────────────────────────────────────


def kept_of_task(config: ModelConfig, task: Task, shape: tuple[int, int, int], device: str, *, autocast: bool = False) -> int:
    with torch.device(device):
        return live_memory.saved_bytes(build(config, task).train(), sampled_inputs(config, task, shape), autocast=autocast)


@pytest.mark.parametrize("shape", [(2, 97, 65), (3, 31, 130), (2, 1, 3)])
@pytest.mark.parametrize("name", TASKS)
def test_each_task_keeps_that(name: str, shape: tuple[int, int, int]) -> None:
    task = task_of(name, classes=7)
    assert closed_of_task(SMALL, task, shape) == kept_of_task(SMALL, task, shape, "meta")


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", TASKS)
def test_each_task_keeps_that_on_the_cpu_in_both_dtypes(name: str, autocast: bool) -> None:  # noqa: FBT001
    task, shape = task_of(name, classes=7), (2, 65, 49)
    predicted = closed_of_task(SMALL, task, shape, autocast=autocast)
    assert predicted == kept_of_task(SMALL, task, shape, "cpu", autocast=autocast)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(configs(fewest_stages=4, most_stages=4), shapes(), st.integers(1, 30))
def test_tasks_on_random_backbones(config: ModelConfig, shape: tuple[int, int, int], classes: int) -> None:
    shape = (1 + shape[0], *shape[1:])
    for name in TASKS:
        task = task_of(name, classes=classes)
        predicted = closed_of_task(config, task, shape)
        assert predicted == kept_of_task(config, task, shape, "meta")


@pytest.mark.parametrize("name", chosen(TASKS, "segformer"))
def test_both_ways_are_one_of_a_task(name: str) -> None:
    """But for the largest transient, which of a task has its outputs too."""
    task, options = task_of(name, classes=7), MemoryOptions()
    shapes = input_shapes(SMALL, task, 2, 64, 96)
    model = UserModel("small", lambda: build(SMALL, task).eval(), tuple(map(Input, shapes)))
    found = live_memory.training_memory(model, options)
    memory = training_memory(NamedNetwork("small", SMALL, (64, 96), task), batch=2, options=options)
    assert (memory.parameters, memory.input_shapes) == (found.parameters, found.input_shapes)
    assert memory.activations.saved_bytes == found.activations.saved_bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_the_peak_of_a_task_is_within_5_percent_of_what_the_allocator_saw(name: str) -> None:
    task = get_tasks([name], proposals=64, detections=16)[0] if TASKS[name].proposals else TASKS[name]
    config, size = VARIANTS["tiny"].config, (128, 160)
    model, given_to = build(config, task).train(), sampled_inputs(config, task, (2, *size))
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        outputs = torch.utils._pytree.tree_leaves(model(*given_to))  # noqa: SLF001 - torch has no public way
        sum(each.sum() for each in outputs).backward()
        optimizer.step()

    step()
    gradients = [each.grad for each in given_to if each.grad is not None]
    lasting = [*model.parameters(), *model.parameters(), *model.parameters(), *model.buffers(), *given_to, *gradients]
    measured = peak_bytes(step, torch.device("cpu"))
    assert measured is not None
    seen = measured + sum(tensor.nbytes for tensor in lasting)
    memory = training_memory(NamedNetwork("tiny", config, size, task), batch=2, options=MemoryOptions(optimizer="sgd-momentum"))
    assert memory.peak_bytes == pytest.approx(seen, rel=0.05)


def test_upernet_trains_on_no_single_image_as_in_torch() -> None:
    """Its map that is pooled to one position has one value per channel, whatever the image's size."""
    task = task_of("upernet")
    with pytest.raises(UsageError, match="batch norm cannot train on one value per channel"):
        closed_of_task(SMALL, task, (1, 256, 256))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        kept_of_task(SMALL, task, (1, 256, 256), "meta")


def test_a_network_that_cannot_be_trained_says_so() -> None:
    with pytest.raises(MpvitError, match="no output depends on a parameter"):
        live_memory.training_memory(UserModel("identity", nn.Identity, (Input((1, 2)),)), MemoryOptions())

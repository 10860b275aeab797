"""Training memory: the closed form gives exactly the bytes that autograd saves on the meta device and on the CPU."""

from collections.abc import Callable, Iterable, Sequence
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
from torch import Tensor, nn

from mpvit import VARIANTS, ModelConfig, build_model
from mpvit.architecture.config import ALTERNATIVES
from mpvit.attention import KINDS
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
"""Kinds of attention of a network, in which factorized attention has the path's position encoding."""

META_KINDS = [kind for kind in NETWORK_KINDS if kind != "sdpa"]
"""Kinds with the same saved bytes on the meta device, where torch has no fused attention and saves the N x N matrices."""

CHANGES: list[dict[str, Any]] = [{field: choices[1]} for field, choices in ALTERNATIVES.items()]
CHANGES += [{"local": False, "fusion": "sum"}, {"local": False, "cpe": False, "crpe_windows": ()}]

IN_BOTH_DTYPES = pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])


def closed(config: ModelConfig, shape: tuple[int, int, int], *, task: Task | None = None, autocast: bool = False) -> int:
    batch, height, width = shape
    tape = Tape(training=True, autocast=autocast)
    NamedNetwork("network", config, (height, width), task).record(tape, batch)
    return tape.saved_bytes


def saved(
    config: ModelConfig, shape: tuple[int, int, int], device: str, *, task: Task | None = None, autocast: bool = False
) -> int:
    """The bytes that autograd saves in training mode."""
    with torch.device(device):
        model = build(config, task) if task else build_model(config)
        return live_memory.saved_bytes(model.train(), sampled_inputs(config, task, shape), autocast=autocast)


def test_the_recorded_figure() -> None:
    assert closed(VARIANTS["tiny"].config, (1, 224, 224)) == 114_651_792


@pytest.mark.parametrize("shape", [(1, 224, 224), (2, 97, 131)])
@pytest.mark.parametrize("variant", chosen(VARIANTS, "tiny"))
def test_variants_on_the_meta_device(variant: str, shape: tuple[int, int, int]) -> None:
    config = VARIANTS[variant].config
    assert closed(config, shape) == saved(config, shape, "meta")


@pytest.mark.parametrize("variant", chosen(VARIANTS, "tiny"))
def test_variants_on_the_cpu(variant: str) -> None:
    config, shape = VARIANTS[variant].config, (2, 65, 49)
    assert closed(config, shape) == saved(config, shape, "cpu") == saved(config, shape, "meta")


@pytest.mark.parametrize("kind", [*META_KINDS, "window:5", "spatial_reduction:3", "performer:20"])
def test_kinds_of_attention_on_the_meta_device(kind: str) -> None:
    config = ModelConfig(VARIANTS["tiny"].config.stages[:2]).with_attention(kind)
    for shape in ((1, 224, 224), (2, 224, 224) if kind == "linformer" else (2, 97, 131)):
        assert closed(config, shape) == saved(config, shape, "meta")


@IN_BOTH_DTYPES
@pytest.mark.parametrize("kind", NETWORK_KINDS)
def test_kinds_of_attention_on_the_cpu(kind: str, autocast: bool) -> None:  # noqa: FBT001 - a parameter of the test
    stage = VARIANTS["tiny"].config.stages[0]
    config = ModelConfig((stage,), num_classes=5, drop_path=0.1).with_attention(kind)
    shape = (2, 224, 224) if kind == "linformer" else (2, 37, 50)
    assert closed(config, shape, autocast=autocast) == saved(config, shape, "cpu", autocast=autocast)


@IN_BOTH_DTYPES
@pytest.mark.parametrize("fields", CHANGES, ids=str)
def test_changed_stages(fields: dict[str, Any], autocast: bool) -> None:  # noqa: FBT001
    stages = tuple(replace(stage, **fields) for stage in VARIANTS["tiny"].config.stages[:2])
    config, shape = ModelConfig(stages, num_classes=5, drop_path=0.1), (2, 65, 49)
    assert closed(config, shape, autocast=autocast) == saved(config, shape, "cpu", autocast=autocast)
    assert closed(config, shape) == saved(config, shape, "meta")


@settings(max_examples=10, deadline=None)
@given(configs(), shapes(), st.sampled_from(["factorized", "window:3", "spatial_reduction:2", "performer:5", *META_KINDS]))
def test_random_networks_on_the_meta_device(config: ModelConfig, shape: tuple[int, int, int], kind: str) -> None:
    """They go down to a single pixel, head and channel, for which torch multiplies and copies in other ways."""
    config, shape = config.with_attention(kind), (1, 224, 224) if kind == "linformer" else shape
    try:
        predicted = closed(config, shape)
    except UsageError:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            saved(config, shape, "meta")
        assume(condition=False)
    assert predicted == saved(config, shape, "meta")


@settings(max_examples=5, deadline=None)
@given(configs(), shapes(), st.booleans())
def test_random_networks_on_the_cpu(config: ModelConfig, shape: tuple[int, int, int], autocast: bool) -> None:  # noqa: FBT001
    assume(shape[0] > 1)
    assert closed(config, shape, autocast=autocast) == saved(config, shape, "cpu", autocast=autocast)


@settings(max_examples=15)
@given(configs(), shapes(), st.booleans())
def test_memory_is_affine_in_the_batch_from_two_on(config: ModelConfig, shape: tuple[int, int, int], autocast: bool) -> None:  # noqa: FBT001
    second, third, far = (closed(config, (batch, *shape[1:]), autocast=autocast) for batch in (2, 3, 57))
    assert far == second + 55 * (third - second)


DEFAULT = MemoryOptions()


def predicted_memory(name: str, *, batch: int = 1, side: int = 224, options: MemoryOptions = DEFAULT) -> TrainingMemory:
    return training_memory(NamedNetwork(name, VARIANTS[name].config, (side, side)), batch=batch, options=options)


TORCH_OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "sgd-momentum": lambda parameters: torch.optim.SGD(parameters, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_and_optimizer_state_are_what_torch_allocates(name: str) -> None:
    model = build_model("tiny")
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = TORCH_OPTIMIZERS[name](model.parameters())
    optimizer.step()
    tensors = [leaf for state in optimizer.state.values() for leaf in state.values() if isinstance(leaf, torch.Tensor)]
    memory = predicted_memory("tiny", options=MemoryOptions(optimizer=name))
    assert memory.optimizer_bytes == sum(tensor.nbytes for tensor in tensors)
    assert memory.parameters.gradient_bytes == memory.parameters.params_bytes == sum(p.nbytes for p in model.parameters())
    assert memory.parameters.params == VARIANTS["tiny"].published.params


def allocated_bytes(model: nn.Module, inputs: Sequence[Tensor]) -> int:
    """The peak of a training step with SGD and momentum on the CPU, as torch's allocator reports it."""
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=False)
        outputs = torch.utils._pytree.tree_leaves(model(*inputs))  # noqa: SLF001 - torch has no public way
        sum(each.sum() for each in outputs).backward()
        optimizer.step()

    step()
    measured = peak_bytes(step, torch.device("cpu"))
    assert measured is not None
    parameters, gradients = list(model.parameters()), [each.grad for each in inputs if each.grad is not None]
    lasting = [*parameters, *parameters, *parameters, *model.buffers(), *inputs, *gradients]  # also gradients and momentum
    return measured + sum(tensor.nbytes for tensor in lasting)


@pytest.mark.parametrize(("name", "batch", "side"), [("tiny", 1, 224), ("small", 3, 64)])
def test_peak_is_within_4_percent_of_what_torch_allocates(name: str, batch: int, side: int) -> None:
    expected = allocated_bytes(build_model(VARIANTS[name].config).train(), [torch.zeros(batch, 3, side, side)])
    memory = predicted_memory(name, batch=batch, side=side, options=MemoryOptions(optimizer="sgd-momentum"))
    assert memory.peak_bytes == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("budget", [24 * 2**30, 400 * 2**20])
def test_largest_batch_fits_the_budget_and_the_next_does_not(dtype: str, budget: int) -> None:
    largest = predicted_memory("tiny", options=MemoryOptions(dtype, budget_bytes=budget)).largest_batch
    assert largest
    assert predicted_memory("tiny", batch=largest, options=MemoryOptions(dtype)).peak_bytes <= budget
    assert predicted_memory("tiny", batch=largest + 1, options=MemoryOptions(dtype)).peak_bytes > budget


def test_budget_for_one_sample_and_for_none() -> None:
    one = predicted_memory("tiny").peak_bytes
    assert predicted_memory("tiny", options=MemoryOptions(budget_bytes=one)).largest_batch == 1
    refused = predicted_memory("tiny", options=MemoryOptions(budget_bytes=one - 1))
    assert (refused.largest_batch, refused.error) == (None, f"budget of {one - 1} bytes: one sample takes {one}")


@pytest.mark.parametrize("choice", [{"dtype": "float16"}, {"optimizer": "lion"}, {"budget_bytes": 0}])
def test_wrong_options_are_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        MemoryOptions(**choice)


# ── any network ─────────────────────────────────────────────────────────────────────────────────────────────────────


def user_model(name: str) -> UserModel:
    make, shape = MODELS[name]
    return UserModel(name, lambda: make().eval(), (Input(shape),))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_any_network_saves_the_same_as_on_the_cpu(name: str, dtype: str) -> None:
    make, shape = MODELS[name]
    memory = live_memory.training_memory(user_model(name), MemoryOptions(dtype))
    model = make().train()
    assert memory.activations.saved_bytes == live_memory.saved_bytes(model, [torch.zeros(shape)], autocast=dtype == "bfloat16")
    assert memory.parameters.params == sum(parameter.numel() for parameter in model.parameters())


def test_modules_that_are_never_called_have_no_gradient() -> None:
    """The unused layer has 700 of the 748 parameters."""
    memory = live_memory.training_memory(user_model("unused_module"), MemoryOptions(optimizer="adam"))
    assert (memory.parameters.params_bytes, memory.parameters.gradient_bytes) == (4 * 748, 4 * 48)
    assert memory.optimizer_bytes == 2 * 4 * 48 + 4 * 3


def test_closed_form_equals_the_live_measurement() -> None:
    config = ModelConfig(VARIANTS["tiny"].config.stages[:1])
    options = MemoryOptions(budget_bytes=2**30)
    model = UserModel("tiny", lambda: build_model(config).eval(), (Input((2, 3, 64, 96)),))
    closed_form = training_memory(NamedNetwork("tiny", config, (64, 96)), batch=2, options=options)
    assert live_memory.training_memory(model, options) == closed_form


def test_network_without_trainable_output_is_refused() -> None:
    with pytest.raises(MpvitError, match="no output depends on a parameter"):
        live_memory.training_memory(UserModel("identity", nn.Identity, (Input((1, 2)),)), MemoryOptions())


# ── detectors and segmenters ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(2, 97, 65), (3, 31, 130), (2, 1, 3)])
@pytest.mark.parametrize("name", TASKS)
def test_tasks_on_the_meta_device(name: str, shape: tuple[int, int, int]) -> None:
    task = task_of(name, classes=7)
    assert closed(SMALL, shape, task=task) == saved(SMALL, shape, "meta", task=task)


@IN_BOTH_DTYPES
@pytest.mark.parametrize("name", TASKS)
def test_tasks_on_the_cpu(name: str, autocast: bool) -> None:  # noqa: FBT001
    task, shape = task_of(name, classes=7), (2, 65, 49)
    assert closed(SMALL, shape, task=task, autocast=autocast) == saved(SMALL, shape, "cpu", task=task, autocast=autocast)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(configs(fewest_stages=4, most_stages=4), shapes(), st.integers(1, 30))
def test_tasks_on_random_backbones(config: ModelConfig, shape: tuple[int, int, int], classes: int) -> None:
    shape = (1 + shape[0], *shape[1:])
    for name in TASKS:
        task = task_of(name, classes=classes)
        assert closed(config, shape, task=task) == saved(config, shape, "meta", task=task)


@pytest.mark.parametrize("name", chosen(TASKS, "segformer"))
def test_closed_form_of_a_task_equals_the_live_measurement(name: str) -> None:
    """The transient bytes differ: in closed form, those of a task include its outputs."""
    task, options = task_of(name, classes=7), MemoryOptions()
    shapes = input_shapes(SMALL, task, 2, 64, 96)
    model = UserModel("small", lambda: build(SMALL, task).eval(), tuple(map(Input, shapes)))
    found = live_memory.training_memory(model, options)
    memory = training_memory(NamedNetwork("small", SMALL, (64, 96), task), batch=2, options=options)
    assert (memory.parameters, memory.input_shapes) == (found.parameters, found.input_shapes)
    assert memory.activations.saved_bytes == found.activations.saved_bytes


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_peak_of_a_task_is_within_5_percent_of_what_torch_allocates(name: str) -> None:
    task = get_tasks([name], proposals=64, detections=16)[0] if TASKS[name].proposals else TASKS[name]
    config, size = VARIANTS["tiny"].config, (128, 160)
    expected = allocated_bytes(build(config, task).train(), sampled_inputs(config, task, (2, *size)))
    memory = training_memory(NamedNetwork("tiny", config, size, task), batch=2, options=MemoryOptions(optimizer="sgd-momentum"))
    assert memory.peak_bytes == pytest.approx(expected, rel=0.05)


def test_upernet_does_not_train_on_a_single_image() -> None:
    """A feature map that is pooled to one position has one value per channel, for any size of the image."""
    task = task_of("upernet")
    with pytest.raises(UsageError, match="batch norm cannot train on one value per channel"):
        closed(SMALL, (1, 256, 256), task=task)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        saved(SMALL, (1, 256, 256), "meta", task=task)

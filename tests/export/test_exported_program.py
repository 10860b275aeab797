"""The networks exported, compiled, traced and transformed by torch equal the eager network."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from chosen import chosen
from drawn_networks import drawn
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies import configs
from torch import Tensor, nn

from mpvit import ModelConfig, StageConfig, build_model
from mpvit.attention import KINDS
from mpvit.errors import UsageError
from mpvit.export.exported_program import as_program
from mpvit.model.fused import fuse

ONE_STAGE = ModelConfig((StageConfig(1, 1, 8, 2, 2),), num_classes=5)
SMALL = ModelConfig((StageConfig(1, 1, 8, 2, 2), StageConfig(2, 1, 12, 2, 2)), num_classes=5)
EXAMPLE = (2, 3, 198, 165)  # so that no attention's own grid, such as an eighth of a stage's, is 1
SHAPES = [EXAMPLE, (1, 3, 1, 1), (1, 3, 32, 32), (3, 3, 33, 71), (5, 3, 96, 64), (1, 3, 8, 130)]
FREE = [kind for kind in KINDS if kind != "linformer"]
"""Kinds of attention that take any size."""

TOLERANCE = 1e-9  # of float64

FORMS: dict[str, Callable[[nn.Module], nn.Module]] = {"plain": lambda network: network, "fused": fuse}  # type: ignore[dict-item]


def of_kind(attention: str) -> ModelConfig:
    return replace(ONE_STAGE, stages=tuple(replace(stage, attention=attention) for stage in ONE_STAGE.stages))


@torch.no_grad()
def assert_follows(found: Callable[[Tensor], Tensor], network: nn.Module, shapes: Sequence[tuple[int, ...]] = SHAPES) -> None:
    for seed, shape in enumerate(shapes):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        expected = network(image)
        assert expected.abs().max() > 0
        assert ((found(image) - expected).abs() / (1 + expected.abs())).max() <= TOLERANCE


@torch.no_grad()
def traced(network: nn.Module, channels: int = 3) -> Callable[[Tensor], Tensor]:
    image = torch.randn(2, channels, 56, 56, dtype=torch.float64)  # whole windows: no attention pads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is still what many tools take
        return torch.jit.trace(network, image)


def example(config: ModelConfig = SMALL) -> Tensor:
    return torch.randn(2, config.in_channels, *EXAMPLE[2:], dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
def test_a_program_takes_any_batch_and_size(form: str) -> None:
    network = FORMS[form](drawn(ONE_STAGE))
    assert_follows(as_program(network, example()).module(), network)


def test_a_program_keeps_the_axes_that_are_not_dynamic() -> None:
    network = drawn(ONE_STAGE)
    program = as_program(network, torch.randn(1, 3, 40, 56, dtype=torch.float64), dynamic=()).module()
    assert_follows(program, network, [(1, 3, 40, 56)])
    with pytest.raises(AssertionError, match="size"):
        program(torch.randn(2, 3, 40, 56, dtype=torch.float64))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:No complete tensor found:UserWarning")  # of channels-last weights, which load as they were
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("attention", FREE)
def test_programs_with_any_kind_of_attention(attention: str, form: str) -> None:
    plain = drawn(of_kind(attention))
    program = as_program(FORMS[form](plain), example())
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert_follows(torch.export.load(file).module(), plain)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=(Phase.generate,))
@given(configs(), st.sampled_from(sorted(FORMS)))
def test_programs_of_any_configuration(config: ModelConfig, form: str) -> None:
    plain = drawn(config)
    shapes = [(batch, config.in_channels, *size) for batch, _, *size in SHAPES]
    assert_follows(as_program(FORMS[form](plain), example(config)).module(), plain, shapes)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["inductor", "aot_eager"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch about itself
def test_the_network_compiles_as_one_graph_for_any_size(form: str, backend: str) -> None:
    plain = drawn(ONE_STAGE)
    torch.compiler.reset()
    network = torch.compile(FORMS[form](plain), fullgraph=True, dynamic=True, backend=backend)
    assert_follows(network, plain)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("attention", chosen(FREE, "factorized_crpe", "window"))
def test_a_traced_network_takes_any_batch_and_size(attention: str, form: str) -> None:
    network = drawn(of_kind(attention))
    assert_follows(traced(FORMS[form](network)), network)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, phases=(Phase.generate,))
@given(configs())
def test_any_traced_configuration(config: ModelConfig) -> None:
    network = drawn(config)
    assert_follows(
        traced(network, config.in_channels), network, [(batch, config.in_channels, *size) for batch, _, *size in SHAPES[2:5]]
    )


def test_functional_transforms() -> None:
    network = drawn(SMALL)
    images = torch.randn(3, 3, 40, 56, dtype=torch.float64)
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())

    def loss(weights: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(network, weights, (image[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(dict(network.named_parameters()), images)
    network(images).square().sum().backward()  # no norm mixes images in evaluation mode: their gradients add up
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(each[name].sum(0), parameter.grad, atol=1e-9, rtol=1e-9)
    assert torch.equal(torch.func.functional_call(network, tensors, (images,)), network(images))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("again", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])  # noqa: S301
def test_copies_and_pickles_compute_the_same(form: str, again: Callable[[nn.Module], nn.Module]) -> None:
    network = FORMS[form](drawn(SMALL))
    image = example().float()
    with torch.no_grad():
        expected = network.float()(image)
        assert torch.equal(again(network)(image), expected)


@pytest.mark.parametrize("call", ["forward", "forward_features"])
def test_the_fused_network_refuses_gradients(call: str) -> None:
    network = fuse(build_model(SMALL))
    image = torch.randn(1, 3, 40, 56, requires_grad=True)
    with pytest.raises(UsageError, match="requires a gradient: the fused network is only for inference") as refused:
        getattr(network, call)(image)
    assert "x.detach()" in refused.value.hint
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert not network(image).requires_grad


def test_a_head_on_fused_features_gets_gradients() -> None:
    network, head = fuse(build_model(replace(SMALL, num_classes=0))), nn.Linear(12, 2)
    head(network(torch.randn(1, 3, 40, 56))).sum().backward()
    assert head.weight.grad is not None
    assert head.weight.grad.abs().sum() > 0

"""Both traces of a network are equal; the trace of any module is what its shapes say."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any, NamedTuple

import pytest
import torch
from chosen import chosen
from dense_networks import SMALL, sampled_inputs, task_of
from hypothesis import given, settings
from models import MODELS
from recorded import trace_config
from strategies import configs, shapes
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mpvit import VARIANTS, ModelConfig, build_model
from mpvit.architecture.config import ALTERNATIVES
from mpvit.attention import KINDS
from mpvit.dense import TASKS, build
from mpvit.errors import MpvitError
from mpvit.trace import ELEMENTWISE_PRODUCT, Trace
from mpvit.trace.live import trace_module

CHANGES = [{field: choices[1]} for field, choices in ALTERNATIVES.items()]

KINDS_OF_A_NETWORK = [kind for kind in KINDS if kind != "factorized_crpe"]
"""Inside a network, factorized attention has the path's position encoding."""


def live(config: ModelConfig, batch: int, height: int, width: int) -> Trace:
    with torch.device("meta"):
        return trace_module(build_model(config).eval(), [torch.empty(batch, config.in_channels, height, width)], backward=True)


@settings(max_examples=8)
@given(configs(), shapes())
def test_both_traces_of_a_network_are_equal(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    assert trace_config(config, *shape) == live(config, *shape)


@pytest.mark.parametrize("kind", chosen(KINDS_OF_A_NETWORK, "softmax", "window", "performer"))
def test_both_traces_are_equal_under_every_kind_of_attention(kind: str) -> None:
    config = ModelConfig(VARIANTS["tiny"].config.stages[:2]).with_attention(kind)
    assert trace_config(config, 1, 224, 224) == live(config, 1, 224, 224)


@pytest.mark.parametrize("fields", CHANGES, ids=str)
def test_both_traces_are_equal_with_parts_switched_off_or_exchanged(fields: dict[str, Any]) -> None:
    config = ModelConfig(tuple(replace(stage, **fields) for stage in VARIANTS["tiny"].config.stages[:3]))
    assert trace_config(config, 1, 224, 224) == live(config, 1, 224, 224)


@pytest.mark.parametrize("kind", ["window:5", "spatial_reduction:3"])
def test_both_traces_are_equal_if_the_grid_is_padded(kind: str) -> None:
    config = VARIANTS["tiny"].config.with_attention(kind)
    assert trace_config(config, 2, 97, 131) == live(config, 2, 97, 131)


def assert_both_traces_of_a_task_are_equal(config: ModelConfig, name: str, shape: tuple[int, int, int]) -> None:
    task = task_of(name, classes=7)
    with torch.device("meta"):
        found = trace_module(build(config, task).eval(), sampled_inputs(config, task, shape), backward=True)
    assert trace_config(config, *shape, task=task) == found


@pytest.mark.parametrize("name", TASKS)
def test_both_traces_of_a_task_are_equal(name: str) -> None:
    """Calls, modules, patched calls and the backward pass, where shared modules run on every level."""
    assert_both_traces_of_a_task_are_equal(SMALL, name, (2, 97, 65))


@pytest.mark.slow
@settings(max_examples=8)
@given(configs(fewest_stages=4, most_stages=4), shapes())
def test_both_traces_of_a_task_are_equal_on_random_backbones(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    for name in TASKS:
        assert_both_traces_of_a_task_are_equal(config, name, shape)


class Weights(NamedTuple):
    w: Tensor
    v: Tensor


Expression = Callable[[Tensor, Weights], Tensor]


@pytest.mark.parametrize(
    ("expression", "shape", "operator", "macs"),
    [
        (lambda x, m: functional.linear(x, m.w), (2, 3, 4), "linear", 2 * 3 * 6 * 4),
        (lambda x, m: functional.linear(x, m.w * 2), (2, 3, 4), "linear", 2 * 3 * 6 * 4),
        (lambda x, m: x @ m.v, (2, 3, 4), "matmul", 2 * 3 * 6 * 4),
        (lambda x, m: torch.matmul(x, m.v), (3, 4), "matmul", 3 * 6 * 4),
        (lambda x, m: x @ m.v[:, 0], (5, 4), "matmul", 5 * 4),
        (lambda x, m: x.mm(m.v), (3, 4), "mm", 3 * 6 * 4),
        (lambda x, _: torch.bmm(x, x.mT), (2, 3, 4), "bmm", 2 * 3 * 3 * 4),
        (lambda x, m: torch.addmm(m.v, x, m.v), (4, 4), "addmm", 4 * 6 * 4),
        (lambda x, m: torch.einsum("bnc,oc->bno", x, m.w), (2, 3, 4), "einsum", 2 * 3 * 6 * 4),
        (lambda x, _: torch.einsum("bn,bm->bnm", x, x), (2, 3), "einsum", 2 * 3 * 3),
        (
            lambda x, _: functional.scaled_dot_product_attention(x, x[:, :3], x[:, :3]),
            (2, 7, 8),
            "scaled_dot_product_attention",
            2 * 7 * 3 * (8 + 8),
        ),
        (
            lambda x, m: functional.conv_transpose2d(x, m.w.reshape(6, 1, 2, 2), stride=2, groups=3),
            (1, 6, 5, 5),
            "conv_transpose2d",
            6 * 25 * 4,
        ),
        (lambda x, m: functional.conv1d(x, m.w.view(6, 2, 2), groups=2), (1, 4, 9), "conv1d", 6 * 8 * 2 * 2),
        (lambda x, m: functional.conv1d(x, weight=m.w.view(6, 4, 1)), (1, 4, 9), "conv1d", 6 * 9 * 4),
        (lambda x, m: functional.conv1d(weight=m.w.view(6, 4, 1), input=x), (1, 4, 9), "conv1d", 6 * 9 * 4),
        (lambda x, m: torch.mm(x, mat2=m.v), (3, 4), "mm", 3 * 6 * 4),
        (lambda x, m: torch.mm(mat2=m.v, input=x), (3, 4), "mm", 3 * 6 * 4),
        (lambda x, m: torch.matmul(other=m.v, input=x), (3, 4), "matmul", 3 * 6 * 4),
        (lambda x, m: torch.addmm(m.w[0, :2], mat2=m.v[:, :2], mat1=x), (3, 4), "addmm", 3 * 4 * 2),
        (lambda x, m: torch.complex(x, x) @ torch.complex(m.v, m.v), (3, 4), "matmul", 3 * 6 * 4),
        (lambda x, _: torch.bmm(x, x.mT, out=x.new_zeros(2, 3, 3)), (2, 3, 4), "bmm", 2 * 3 * 3 * 4),
        (lambda x, m: torch.outer(x, m.w[:, 0]), (5,), "outer", 5 * 6),
        (lambda x, m: torch.einsum("ab,cb,dc->ad", x, m.w, m.v), (3, 4), "einsum", 3 * 4 * 6 + 3 * 6 * 4),
    ],
)
def test_the_multiply_adds_of_one_call(expression: Expression, shape: tuple[int, ...], operator: str, macs: int) -> None:
    """Each sum of products by hand: output elements times what is summed over."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.v = nn.Parameter(torch.zeros(6, 4)), nn.Parameter(torch.zeros(4, 6))

        def forward(self, x: Tensor) -> Tensor:
            return expression(x, Weights(self.w, self.v))

    (multiplying,) = [call for call in trace_module(Model(), [torch.zeros(shape)]).calls if call.macs]
    assert (multiplying.operator, multiplying.macs) == (operator, macs)


@pytest.mark.parametrize("name", MODELS)
def test_a_trace_is_the_same_on_the_cpu_and_on_meta(name: str) -> None:
    make, shape = MODELS[name]
    with torch.device("meta"):
        on_meta = trace_module(make().eval(), [torch.empty(shape)])
    model = make().eval()
    assert trace_module(model, [torch.zeros(shape)]) == on_meta
    assert on_meta.params == sum(parameter.numel() for parameter in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        make().eval()(torch.empty(shape))
    assert (
        sum(call.macs - call.dispatched_macs(ELEMENTWISE_PRODUCT) for call in on_meta.calls) == counter.get_total_flops() // 2
    )


def test_a_shared_module_has_every_name_and_a_path_for_each_caller() -> None:
    make, shape = MODELS["shared_module"]
    found = trace_module(make().eval(), [torch.zeros(shape)])
    assert found.modules["first.conv"].names == ("first.conv", "second.conv", "conv")
    assert [call.path for call in found.calls if call.module == "first.conv"] == ["first.conv", "conv", "second.conv"]
    assert [call.path for call in found.calls if call.module == "first.head"] == ["first.head"] * 2 + ["second.head"] * 2


def test_tied_weights_and_unused_layers_are_counted_once() -> None:
    make, shape = MODELS["unused_module"]
    found = trace_module(make().eval(), [torch.zeros(shape)])
    assert {name: module.params for name, module in found.modules.items()} == {"": 6, "used": 42, "tied": 0, "unused": 700}


def test_a_call_with_two_different_readings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two readings of each call, by its shapes and by what torch's dispatcher is given, must agree."""
    monkeypatch.setattr("mpvit.trace.live.multiply_adds", lambda _, given, output, __: prod(output) * prod(given[0][1:]))
    with pytest.raises(MpvitError, match=r"^conv2d in conv: 24576 multiply-adds by its shapes, 3456 by what torch runs$"):
        trace_module(nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 2, 3, padding=1))), [torch.zeros(1, 3, 8, 8)])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_linear_layer_takes_no_integers(device: str) -> None:
    with pytest.raises((TypeError, RuntimeError), match="dtype"):
        trace_module(nn.Linear(4, 2, device=device), [torch.zeros(3, 4, dtype=torch.int64, device=device)])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_module_is_counted() -> None:
    scripted = torch.jit.trace(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), torch.zeros(3, 4))
    assert trace_module(scripted, [torch.zeros(3, 4)]).macs == 3 * 4 * 6


@pytest.mark.parametrize(
    ("expression", "styles"),
    [
        (lambda x: x + x, ["infix"]),
        (lambda x: sum([x, x], x), ["infix"] * 2),
        (lambda x: x.add(x), ["method"]),
        (lambda x: torch.add(x, x), ["torch"]),
    ],
    ids=["+", "sum", "method", "torch"],
)
def test_how_an_addition_is_written(expression: Callable[[Tensor], Tensor], styles: list[str]) -> None:
    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return expression(x)

    assert [call.call_style for call in trace_module(Model(), [torch.zeros(3)]).calls] == styles


def test_a_function_held_by_reference_is_no_patched_call() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.held = functional.gelu

        def forward(self, x: Tensor) -> Tensor:
            return self.held(functional.relu(x))

    assert [each.operator for each in trace_module(Held(), [torch.zeros(3)]).patched_calls] == ["relu"]

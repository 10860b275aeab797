"""The backward pass's multiply-adds: what torch's counter sees of it, and where that is wrong."""

from collections.abc import Callable

import pytest
import torch
from models import MODELS
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mpvit import VARIANTS, ModelConfig, build_model
from mpvit.operations.backward import backward_macs
from mpvit.trace.closed_form import trace_config
from mpvit.trace.live import trace_module


def counted(model: nn.Module, shape: tuple[int, ...]) -> int:
    """The MACs of forward and backward by torch's counter."""
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(shape, device="meta")).sum().backward()
    return counter.get_total_flops() // 2


def predicted(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, int]:
    """The forward and backward MACs."""
    trace = trace_module(model, [torch.empty(shape, device="meta")])
    return trace.macs, sum(backward_macs(trace.calls))


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return make()


class Attention(nn.Module):
    """Matrix products of activations only after a linear layer: (b, n, 8) -> (b, n, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        return self.out((query @ key.mT).softmax(-1) @ value)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Attention, (2, 5, 8)),
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 5, 2, bias=False)), (2, 3, 17, 19)),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2, 2), nn.Conv2d(4, 2, 1)), (1, 3, 6, 5)),
        (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), (2, 3, 7, 7)),
        MODELS["unused_module"],
    ],
    ids=["attention", "convolutions", "transposed", "norm_first", "tied"],
)
def test_it_is_what_torch_counts_where_nothing_is_grouped(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    model = on_meta(make)
    assert sum(predicted(model, shape)) == counted(model, shape)


def test_a_convolution_of_64_groups_is_3_times_its_forward_pass() -> None:
    """Torch 2.13 says 66 times."""
    model = on_meta(lambda: nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False)))
    images = torch.empty(1, 64, 56, 56, device="meta", requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    forward, backward = predicted(nn.Sequential(nn.BatchNorm2d(64, device="meta"), model), images.shape)
    assert forward == 64 * 56 * 56 * 9
    assert (forward + backward, counter.get_total_flops() // 2) == (3 * forward, 66 * forward)


def test_the_first_convolution_takes_its_weights_gradient_alone() -> None:
    trace = trace_config(VARIANTS["tiny"].config, 1, 224, 224)
    stem = trace.calls[0].macs
    assert stem == 32 * 3 * 9 * 112 * 112
    assert backward_macs(trace.calls)[0] == stem
    assert sum(backward_macs(trace.calls)) == 2 * trace.macs - stem


@pytest.mark.parametrize("kind", ["softmax", "sdpa", "factorized", "efficient", "linear", "cross_covariance", "window"])
def test_of_a_whole_network_torch_is_wrong_by_its_grouped_convolutions_alone(kind: str) -> None:
    config = ModelConfig(VARIANTS["tiny"].config.stages[:2]).with_attention(kind)
    with torch.device("meta"):
        model = build_model(config).eval()
    trace = trace_config(config, 1, 64, 64)
    groups = {name: module.groups for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    overcounted = sum(call.macs * (groups.get(call.module, 1) - 1) for call in trace.calls if call.is_convolution)
    assert counted(model, (1, 3, 64, 64)) == trace.macs + sum(backward_macs(trace.calls)) + overcounted

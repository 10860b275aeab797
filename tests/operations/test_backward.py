"""Multiply-adds of the backward pass in closed form against torch's counter; ``tests/trace`` has the backward pass itself."""

import pytest
import torch
from recorded import trace_config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mpvit import VARIANTS, ModelConfig, build_model


def test_first_convolution_computes_only_the_gradient_of_its_weight() -> None:
    trace = trace_config(VARIANTS["tiny"].config, 1, 224, 224)
    assert trace.backward is not None
    stem = trace.calls[0].macs
    assert stem == 32 * 3 * 9 * 112 * 112
    assert trace.backward["stem.0.conv", "conv2d"] == stem
    assert sum(trace.backward.values()) == 2 * trace.macs - stem


@pytest.mark.parametrize(
    "kind", ["softmax", "sdpa", "factorized", "efficient", "linear", "performer", "cross_covariance", "window"]
)
def test_torch_differs_only_by_the_grouped_convolutions_of_a_network(kind: str) -> None:
    config = ModelConfig(VARIANTS["tiny"].config.stages[:2]).with_attention(kind)
    with torch.device("meta"):
        model = build_model(config).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, 64, 64)).sum().backward()
    trace = trace_config(config, 1, 64, 64)
    assert trace.backward is not None
    groups = {name: module.groups for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    overcounted = sum(call.macs * (groups.get(call.module, 1) - 1) for call in trace.calls if call.is_convolution)
    assert counter.get_total_flops() // 2 == trace.macs + sum(trace.backward.values()) + overcounted

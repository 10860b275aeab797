"""Other people's networks: the multiply-adds of their backward passes are what torch's counter says, where it is right."""

from math import prod
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from zoo.networks import NETWORKS, build

from mpvit.trace.arguments import results_in
from mpvit.trace.user_model import trace_user_model
from mpvit.user_model import UserModel
from mpvit.user_model.inputs import parse_input
from mpvit.user_model.making import on_cpu, on_meta

OUTER_PRODUCTS = {"rt_detr": 32}
"""The multiply-adds of outer products, forward, which torch's counter leaves out."""


def _convolution(gradient: Any, data: Any, weight: Any, *rest: Any, **_: Any) -> int:  # noqa: ANN401 - as torch hands them on
    """FLOPs of dX and dW, each as large as the forward pass; torch's own formula leaves the groups out of dW."""
    transposed, asked = rest[4], rest[7]
    return 2 * prod(data if transposed else gradient) * prod(weight[1:]) * sum(asked[:2])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the networks themselves warn of is their business
@pytest.mark.parametrize("name", NETWORKS)
def test_backward_passes_are_what_torch_counts(name: str) -> None:
    model = UserModel(name, lambda: build(name), tuple(map(parse_input, NETWORKS[name].inputs)))
    found = trace_user_model(model, backward=True)
    assert found.trace.backward is not None
    device = found.tensors[0].device.type
    network = on_meta(model) if device == "meta" else on_cpu(model)  # afresh: some keep a graph from the first pass
    formulas = {torch.ops.aten.convolution_backward: _convolution}
    with torch.device(device), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        results = [tensor for tensor in results_in(network(*model.tensors(device))) if tensor.requires_grad]
        torch.autograd.backward(results, [torch.ones_like(tensor) for tensor in results])
    ours = found.trace.macs + sum(found.trace.backward.values())
    assert ours == counter.get_total_flops() // 2 + OUTER_PRODUCTS.get(name, 0)

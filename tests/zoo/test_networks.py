"""Networks of other people: every multiply-add and parameter that a tool counts of them is explained.

The multiply-adds of their backward passes are those of torch's counter, where it is right.
"""

from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
from live_tools import INSTALLED
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from zoo.networks import NETWORKS, REFUSED
from zoo.sequences import SEQUENCES

from mpvit.reconcile.differing import differing
from mpvit.reconcile.explain import explain, run_tool
from mpvit.tools import TOOLS, trace_options
from mpvit.trace.arguments import results_in
from mpvit.trace.live import trace_module
from mpvit.trace.user_model import TracedModel, trace_user_model
from mpvit.user_model import UserModel, load_model
from mpvit.user_model.inputs import parse_inputs
from mpvit.user_model.making import on_cpu, on_meta

SAMPLE = ("vit", "efficientnet", "siglip", "RobertaModel")

RUNS = [(name, batch) for name in NETWORKS for batch in (1, 3)] + [(name, 1) for name in SEQUENCES]

KEEPING_A_GRAPH = ("levit",)
"""Networks that keep a tensor of a pass with gradients, so that no tool can copy them afterwards: they are traced twice."""

OUTER_PRODUCTS = {"rt_detr": 32}
"""The multiply-adds of outer products, forward, which torch's counter leaves out."""


def assert_explained(name: str, found: TracedModel) -> None:
    for tool in INSTALLED:
        ran = run_tool(explain(found.trace, name, tool), found.network, found.tensors)
        if (name, tool) in REFUSED:
            assert REFUSED[name, tool] in ran.error
        else:
            assert (tool, ran.error, ran.residual, ran.params_residual or 0) == (tool, "", 0, 0)
            assert ran.live
            assert (tool, differing(found.trace, tool, ran.live.by_module)) == (tool, {})


def _convolution(gradient: Any, data: Any, weight: Any, *rest: Any, **_: Any) -> int:  # noqa: ANN401 - as torch calls it
    """FLOPs of dX and dW, each as many as the forward pass has; torch's own formula leaves the groups out of dW."""
    transposed, needed = rest[4], rest[7]
    return 2 * prod(data if transposed else gradient) * prod(weight[1:]) * sum(needed[:2])


def assert_backward_is_what_torch_counts(name: str, model: UserModel, found: TracedModel) -> None:
    assert found.trace.backward is not None
    device = found.tensors[0].device.type
    network = on_meta(model) if device == "meta" else on_cpu(model)  # a new one: some keep a graph from the first pass
    formulas = {torch.ops.aten.convolution_backward: _convolution}
    with torch.device(device), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=formulas) as counter:
        results = [tensor for tensor in results_in(network(*model.tensors(device))) if tensor.requires_grad]
        torch.autograd.backward(results, [torch.ones_like(tensor) for tensor in results])
    ours = found.trace.macs + sum(found.trace.backward.values())
    assert ours == counter.get_total_flops() // 2 + OUTER_PRODUCTS.get(name, 0)


@pytest.mark.filterwarnings("ignore")  # what the networks themselves warn of is their business
@pytest.mark.parametrize(
    ("name", "batch"), [each if each[0] in SAMPLE else pytest.param(*each, marks=pytest.mark.slow) for each in RUNS]
)
def test_tools_agree_on_networks_of_transformers(name: str, batch: int) -> None:
    texts = (NETWORKS | SEQUENCES)[name].inputs
    inputs = parse_inputs([f"{batch}{text[1:]}" if text.startswith("1x") else text for text in texts])
    model = load_model("zoo.networks:build", {"name": name}, inputs)
    backward = name in NETWORKS and batch == 1
    found = trace_user_model(model, backward=backward and name not in KEEPING_A_GRAPH, **trace_options(TOOLS))
    assert_explained(name, found)
    if backward:
        with_backward = trace_user_model(model, backward=True) if name in KEEPING_A_GRAPH else found
        assert_backward_is_what_torch_counts(name, model, with_backward)


def test_a_call_that_is_misread_stays_unexplained() -> None:
    network, inputs = torch.nn.Linear(4, 6), [torch.zeros(2, 4)]
    trace = trace_module(network, inputs, graph=True)
    misread = replace(trace, calls=tuple(replace(call, macs=call.macs + 1) for call in trace.calls))
    assert run_tool(explain(trace, "linear", "fvcore"), network, inputs).residual == 0
    assert run_tool(explain(misread, "linear", "fvcore"), network, inputs).residual == -1

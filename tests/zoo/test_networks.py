"""Other people's networks: every multiply-add and parameter that a tool counts of them is explained."""

from dataclasses import replace

import pytest
import torch
from zoo.networks import NETWORKS, REFUSED, build

from mpvit.reconcile.explain import explain, run_tool, with_graph
from mpvit.trace.live import trace_module
from mpvit.user_model.inputs import parse_input

TOOLS = ("fvcore", "calflops")
"""The tools whose rules hold on all of them."""

SAMPLE = ("vit", "efficientnet", "siglip")


@pytest.mark.filterwarnings("ignore")  # what the networks themselves warn of is their business
@pytest.mark.parametrize("name", [each if each in SAMPLE else pytest.param(each, marks=pytest.mark.slow) for each in NETWORKS])
def test_tools_agree_on_networks_of_transformers(name: str) -> None:
    network = build(name)
    read = [parse_input(text) for text in NETWORKS[name].inputs]
    inputs = [torch.zeros(each.shape, dtype=getattr(torch, each.dtype)) for each in read]
    trace = with_graph(trace_module(network, inputs), TOOLS, network, inputs)
    for tool in TOOLS:
        found = run_tool(explain(trace, name, tool), network, inputs)
        if (name, tool) in REFUSED:
            assert REFUSED[name, tool] in found.error
        else:
            assert (tool, found.error, found.residual, found.params_residual or 0) == (tool, "", 0, 0)


def test_a_call_that_is_misread_stays_unexplained() -> None:
    network, inputs = torch.nn.Linear(4, 6), [torch.zeros(2, 4)]
    trace = with_graph(trace_module(network, inputs), ["fvcore"], network, inputs)
    misread = replace(trace, calls=tuple(replace(call, macs=call.macs + 1) for call in trace.calls))
    assert run_tool(explain(trace, "linear", "fvcore"), network, inputs).residual == 0
    assert run_tool(explain(misread, "linear", "fvcore"), network, inputs).residual == -1

"""Other people's networks: every multiply-add and parameter that a tool counts of them is explained."""

from dataclasses import replace

import pytest
import torch
from zoo.networks import NETWORKS, REFUSED
from zoo.sequences import SEQUENCES

from mpvit.reconcile.differing import differing
from mpvit.reconcile.explain import explain, run_tool
from mpvit.tools import TOOLS, get_tool, trace_options
from mpvit.trace.live import trace_module
from mpvit.trace.user_model import trace_user_model
from mpvit.user_model import load_model
from mpvit.user_model.inputs import parse_inputs

INSTALLED = [name for name in TOOLS if get_tool(name).installed_version]

SAMPLE = ("vit", "efficientnet", "siglip", "RobertaModel")

RUNS = [(name, batch) for name in NETWORKS for batch in (1, 3)] + [(name, 1) for name in SEQUENCES]


@pytest.mark.filterwarnings("ignore")  # what the networks themselves warn of is their business
@pytest.mark.parametrize(
    ("name", "batch"), [each if each[0] in SAMPLE else pytest.param(*each, marks=pytest.mark.slow) for each in RUNS]
)
def test_tools_agree_on_networks_of_transformers(name: str, batch: int) -> None:
    texts = (NETWORKS | SEQUENCES)[name].inputs
    inputs = parse_inputs([f"{batch}{text[1:]}" if text.startswith("1x") else text for text in texts])
    found = trace_user_model(load_model("zoo.networks:build", {"name": name}, inputs), **trace_options(TOOLS))
    trace = found.trace
    for tool in INSTALLED:
        ran = run_tool(explain(trace, name, tool), found.network, found.tensors)
        if (name, tool) in REFUSED:
            assert REFUSED[name, tool] in ran.error
        else:
            assert (tool, ran.error, ran.residual, ran.params_residual or 0) == (tool, "", 0, 0)
            assert ran.live
            assert (tool, differing(trace, tool, ran.live.by_module)) == (tool, {})


def test_a_call_that_is_misread_stays_unexplained() -> None:
    network, inputs = torch.nn.Linear(4, 6), [torch.zeros(2, 4)]
    trace = trace_module(network, inputs, graph=True)
    misread = replace(trace, calls=tuple(replace(call, macs=call.macs + 1) for call in trace.calls))
    assert run_tool(explain(trace, "linear", "fvcore"), network, inputs).residual == 0
    assert run_tool(explain(misread, "linear", "fvcore"), network, inputs).residual == -1

"""The tools that are installed, run next to their rules."""

from recorded import trace_config
from torch import Tensor, nn

from mpvit import ModelConfig
from mpvit.network import NamedNetwork
from mpvit.reconcile.explain import Explanation, explain, run_tool
from mpvit.tools import TOOLS, get_tool
from mpvit.trace import Trace
from mpvit.trace.live import trace_module

INSTALLED = [name for name in TOOLS if get_tool(name).installed_version]


def explained_live(config: ModelConfig, size: tuple[int, int], layout: str) -> list[Explanation]:
    """What each tool counts of two images of a network, next to its rule in closed form."""
    trace = trace_config(config, 2, *size, layout=layout)
    network, images = NamedNetwork("network", config, size).on_meta(2, layout)
    return [run_tool(explain(trace, "network", tool), network, images) for tool in INSTALLED]


def traced(model: nn.Module, images: list[Tensor]) -> Trace:
    """The trace with everything that rules read."""
    return trace_module(model, images, graph=True, dispatched_on_cpu=True)


def assert_explained(explanations: list[Explanation]) -> None:
    for each in explanations:
        assert not each.error, each.error
        assert (each.tool, each.residual, each.params_residual or 0) == (each.tool, 0, 0)


def assert_all_explained(model: nn.Module, images: list[Tensor]) -> None:
    trace = traced(model, images)
    assert_explained([run_tool(explain(trace, "network", tool), model, images) for tool in INSTALLED])

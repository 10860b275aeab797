"""``mpvit reconcile``: reasons why other counters print other numbers."""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from mpvit.errors import UsageError, unknown_name
from mpvit.network import NamedNetwork
from mpvit.reconcile.explain import Explanation, explain, require_explained, run_tool
from mpvit.tables.reconcile import reconcile_document
from mpvit.tools import TOOLS, get_tool, trace_options
from mpvit.trace import Trace
from mpvit.trace.closed_form import LAYOUTS, trace_network
from mpvit.user_model import UserModel
from mpvit_cli.options import Options, option
from mpvit_cli.options.answer import PlottedAnswer
from mpvit_cli.options.user_model import AnyNetworks
from mpvit_cli.options.values import ALL, parse_names
from mpvit_cli.output import Terminal


class Reconciling(Options):
    """The tools that are explained, and the names of modules."""

    tool: Annotated[
        list[str] | None,
        option(
            f"Tool to explain: {', '.join(TOOLS)} or all; repeatable.", metavar="NAME|all", choices=[ALL, *TOOLS], default="all"
        ),
    ] = None
    layout: Annotated[
        str,
        option(
            "Module names: this project's, or those of the published checkpoints, where shared modules have several.",
            choices=LAYOUTS,
        ),
    ] = LAYOUTS[0]
    live: Annotated[
        bool,
        option(
            "Run each installed tool too; exit with 3 if anything is unexplained, with 1 if a tool of --tool NAME fails.",
            "--live",
        ),
    ] = False

    @property
    def tools(self) -> list[str]:
        """The names of the tools."""
        return parse_names(self.tool, TOOLS, [ALL])

    def check(self) -> None:
        """Raise ``UsageError`` for an unknown tool or layout."""
        for name in self.tools:
            get_tool(name)
        if self.layout not in LAYOUTS:
            raise unknown_name("layout", self.layout, LAYOUTS)

    def check_layout(self, networks: AnyNetworks) -> None:
        """Raise ``UsageError`` for a layout that the networks do not have."""
        if networks.model and self.layout != LAYOUTS[0]:
            raise UsageError(f"--layout {self.layout} with --model: a model has its own names")
        if networks.task and self.layout != LAYOUTS[0]:
            raise UsageError(
                f"--layout {self.layout} with --task: must be {LAYOUTS[0]}", hint="the checkpoints are of classifiers"
            )


def reconcile(terminal: Terminal, networks: AnyNetworks, reconciling: Reconciling, answer: PlottedAnswer) -> None:
    """Explain what other tools count of a network, to the last integer: the exact count, and named terms.

    Examples:
      mpvit reconcile --variant xsmall --layout published

      mpvit reconcile --task upernet --variant small --tool fvcore,thop

      mpvit reconcile --model my_models.vit:ViT --input 1x3x224x224 --live --plot waterfall.svg
    """
    tools, layout, live = reconciling.tools, reconciling.layout, reconciling.live
    reconciling.check_layout(networks)
    if networks.model:
        explained, traces, run = _explain_model(networks.load(terminal), tools)
    else:
        explained, traces, run = _explain_networks(networks.networks(), tools, networks.batch, layout)
    interrupted = False
    if live:
        ran: list[Explanation] = []
        interrupted = terminal.collect(map(run, explained), "Counting", len(explained), into=ran)
        explained = ran + explained[len(ran) :]
    answer.show(terminal, reconcile_document(explained, layout, live=live))
    answer.draw(terminal, "mpvit.plots.waterfall:waterfall_figure", explained)
    if interrupted:
        raise typer.Exit(130)
    require_explained(explained, traces)
    if any(each.failed and each.tool in parse_names(reconciling.tool, [], []) for each in explained):
        raise typer.Exit(1)


_Study = tuple[list[Explanation], "dict[str, Trace]", "Callable[[Explanation], Explanation]"]
"""Explanations by the rules, the traces by label, and a function that adds the count of the tool itself."""


def _explain_networks(networks: Sequence[NamedNetwork], tools: Sequence[str], batch: int, layout: str) -> _Study:
    named = {network.label: network for network in networks}
    traces = {label: trace_network(network, batch, layout=layout) for label, network in named.items()}
    explained = [explain(traces[label], each.name, tool, each.task) for label, each in named.items() for tool in tools]
    return explained, traces, lambda each: run_tool(each, *named[each.label].on_meta(batch, layout))


def _explain_model(model: "UserModel", tools: Sequence[str]) -> _Study:
    from mpvit.trace.user_model import trace_user_model

    found = trace_user_model(model, **trace_options(tools))
    explained = [explain(found.trace, model.name, tool) for tool in tools]
    return explained, {model.name: found.trace}, lambda each: run_tool(each, found.network, found.tensors)

"""``mpvit reconcile``: why other counters print other numbers."""

from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.errors import UsageError, unknown_name
from mpvit.reconcile.explain import Explanation, explain, require_explained, run_tool
from mpvit.tables.reconcile import reconcile_document
from mpvit.tools import TOOLS, get_tool, trace_options
from mpvit.trace.closed_form import LAYOUTS, trace_network
from mpvit_cli import options, tasks, user_model
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpvit.network import NamedNetwork
    from mpvit.trace import Trace
    from mpvit.user_model import UserModel

Tools = Annotated[
    list[str] | None,
    typer.Option(
        "--tool",
        metavar="NAME|all",
        help=f"Tools to explain: {', '.join(TOOLS)} or all; repeatable. (default: all)",
        autocompletion=options.complete([options.ALL, *TOOLS]),
        show_default=False,
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        metavar="|".join(LAYOUTS),
        help="Whose modules: this project's, or those of the published checkpoints, where shared ones have several names.",
        autocompletion=options.complete(LAYOUTS),
    ),
]
Live = Annotated[
    bool,
    typer.Option(
        "--live",
        help="Run each installed tool too; exit with 3 if anything is unexplained, with 1 if a tool of --tool NAME fails.",
    ),
]


def reconcile(
    ctx: typer.Context,
    variant: options.Variants = None,
    config: options.Configs = None,
    attention: options.Attention = None,
    task: tasks.Tasks = None,
    classes: tasks.Classes = None,
    proposals: tasks.Proposals = None,
    detections: tasks.Detections = None,
    size: options.Size = "224",
    batch: options.Batch = 1,
    model: user_model.Model = None,
    argument: user_model.Arguments = None,
    inputs: user_model.Inputs = None,
    tool: Tools = None,
    layout: Layout = "project",
    live: Live = False,
    plot: options.Plot = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Explain what other tools count of a network, to the last integer: the exact count, and named terms.

    Examples:
      mpvit reconcile --variant xsmall --layout published

      mpvit reconcile --task upernet --variant small --tool fvcore,thop

      mpvit reconcile --model my_models.vit:ViT --input 1x3x224x224 --live --plot waterfall.svg
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    tools = options.parse_names(tool, TOOLS, [options.ALL])
    for name in tools:
        get_tool(name)
    _check_layout(layout, model, task)
    user_model.check_model_options(ctx, model)
    if model:
        explained, traces, run = _explain_model(user_model.load(model, argument, inputs, terminal), tools)
    else:
        numbers = {"classes": classes, "proposals": proposals, "detections": detections}
        networks = tasks.parse_networks(ctx, options.parse_models(variant, config, attention), size, task, numbers)
        explained, traces, run = _explain_networks(networks, tools, batch, layout)
    interrupted = False
    if live:
        ran: list[Explanation] = []
        interrupted = terminal.collect(map(run, explained), "Counting", len(explained), into=ran)
        explained = ran + explained[len(ran) :]
    terminal.show(reconcile_document(explained, layout, live=live), form, output)
    if plot:
        from mpvit.plots.waterfall import waterfall_figure

        terminal.save(waterfall_figure(explained), plot)
    if interrupted:
        raise typer.Exit(130)
    require_explained(explained, traces)
    named = options.parse_names(tool, [], [])
    if any(each.failed and each.tool in named for each in explained):
        raise typer.Exit(1)


def _check_layout(layout: str, model: str | None, task: "Sequence[str] | None") -> None:
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    if model and layout != LAYOUTS[0]:
        raise UsageError(f"--layout {layout} with --model: a model has its own names")
    if task and layout != LAYOUTS[0]:
        raise UsageError(f"--layout {layout} with --task: must be {LAYOUTS[0]}", hint="the checkpoints are of classifiers")


_Study = tuple[list[Explanation], "dict[str, Trace]", "Callable[[Explanation], Explanation]"]
"""Explanations by the rules, the traces by label, and a function that adds the count of the tool itself."""


def _explain_networks(networks: "Sequence[NamedNetwork]", tools: "Sequence[str]", batch: int, layout: str) -> _Study:
    named = {network.label: network for network in networks}
    traces = {label: trace_network(network, batch, layout=layout) for label, network in named.items()}
    explained = [explain(traces[label], each.name, tool, each.task) for label, each in named.items() for tool in tools]
    return explained, traces, lambda each: run_tool(each, *named[each.label].on_meta(batch, layout))


def _explain_model(model: "UserModel", tools: "Sequence[str]") -> _Study:
    from mpvit.trace.user_model import trace_user_model

    found = trace_user_model(model, **trace_options(tools))
    explained = [explain(found.trace, model.name, tool) for tool in tools]
    return explained, {model.name: found.trace}, lambda each: run_tool(each, found.network, found.tensors)

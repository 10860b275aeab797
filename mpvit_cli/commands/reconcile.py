"""``mpvit reconcile``: why other counters print other numbers."""

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mpvit.errors import UsageError, unknown_name
from mpvit.network import NamedNetwork
from mpvit.reconcile.explain import Explanation, explain, require_explained, run_tool
from mpvit.tables.reconcile import reconcile_document
from mpvit.tools import TOOLS, get_tool, trace_options
from mpvit.trace.closed_form import LAYOUTS, trace_network
from mpvit_cli import options, tasks, user_model
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from mpvit.dense import Task
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
    if layout not in LAYOUTS:
        raise unknown_name("layout", layout, LAYOUTS)
    user_model.check_model_options(ctx, model)
    if model and layout != LAYOUTS[0]:
        raise UsageError(f"--layout {layout} with --model: a model has its own names")
    if task and layout != LAYOUTS[0]:
        raise UsageError(f"--layout {layout} with --task: must be {LAYOUTS[0]}", hint="the checkpoints are of classifiers")
    if model:
        networks = _user_network(user_model.load(model, argument, inputs, terminal), tools)
    else:
        numbers = {"classes": classes, "proposals": proposals, "detections": detections}
        subjects = tasks.parse_networks(ctx, options.parse_models(variant, config, attention), size, task, numbers)
        networks = {each.label: _network(each, batch, layout) for each in subjects}
    explained = [explain(each.trace, each.name, tool, each.task) for each in networks.values() for tool in tools]
    interrupted = False
    if live:
        ran: list[Explanation] = []
        runs = (run_tool(each, *networks[each.label].make()) for each in explained)
        interrupted = terminal.collect(runs, "Counting", len(explained), into=ran)
        explained = ran + explained[len(ran) :]
    terminal.show(reconcile_document(explained, layout, live=live), form, output)
    if plot:
        from mpvit.plots.waterfall import waterfall_figure

        terminal.save(waterfall_figure(explained), plot)
    if interrupted:
        raise typer.Exit(130)
    require_explained(explained, {name: network.trace for name, network in networks.items()})
    named = options.parse_names(tool, [], [])
    if any(each.failed and each.tool in named for each in explained):
        raise typer.Exit(1)


class _Network(NamedTuple):
    """A network's name and trace, how to make it and its inputs for the tools themselves, and the task that it is under."""

    name: str
    trace: "Trace"
    make: "Callable[[], tuple[nn.Module, Sequence[Tensor]]]"
    task: "Task | None" = None


def _network(network: NamedNetwork, batch: int, layout: str) -> _Network:
    config, task = network.config, network.task

    def make() -> "tuple[nn.Module, Sequence[Tensor]]":
        import torch

        from mpvit.dense.torch_network import empty_network
        from mpvit.model.published_layout import PublishedLayout

        inputs = [torch.empty(shape, device="meta") for shape in network.input_shapes(batch)]
        if layout == "published":
            return PublishedLayout(empty_network(config, "meta")), inputs
        return empty_network(config, "meta", task), inputs

    return _Network(network.name, trace_network(network, batch, layout=layout), make, task)


def _user_network(model: "UserModel", tools: "Sequence[str]") -> dict[str, _Network]:
    from mpvit.trace.user_model import trace_user_model

    found = trace_user_model(model, **trace_options(tools))
    return {model.name: _Network(model.name, found.trace, lambda: (found.network, found.tensors))}

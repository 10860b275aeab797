"""``mpvit reconcile``: why other counters print other numbers."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mpvit.config import ModelConfig
from mpvit.errors import UsageError, unknown_name
from mpvit.reconcile.explain import Explanation, explain, read_on_the_cpu, require_explained, run_tool
from mpvit.reconcile.tools import TOOLS, get_tool
from mpvit.tables.reconcile import reconcile_document
from mpvit.trace.closed_form import LAYOUTS, trace_config
from mpvit_cli import options, user_model
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

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
    if model:
        networks = _user_network(user_model.load(model, argument, inputs, terminal), tools)
    else:
        networks = _networks(variant, config, attention, size, batch, layout)
    explained = [explain(network.trace, name, each) for name, network in networks.items() for each in tools]
    interrupted = False
    if live:
        ran: list[Explanation] = []
        runs = (run_tool(each, *networks[each.model].make()) for each in explained)
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
    """A network's trace, and how to make it and its inputs for the tools themselves."""

    trace: "Trace"
    make: "Callable[[], tuple[nn.Module, Sequence[Tensor]]]"


def _networks(
    variants: "Sequence[str] | None",
    configs: "Sequence[Path] | None",
    attention: str | None,
    size: str,
    batch: int,
    layout: str,
) -> dict[str, _Network]:
    def make(network: ModelConfig) -> "tuple[nn.Module, Sequence[Tensor]]":
        import torch

        from mpvit.counting.isolation import fresh_model
        from mpvit.model.published_layout import PublishedLayout

        model = fresh_model(network, "meta")
        images = torch.empty(batch, network.in_channels, *pixels, device="meta")
        return PublishedLayout(model) if layout == "published" else model, [images]

    pixels = options.parse_size(size)
    found = options.parse_models(variants, configs, attention)
    return {
        name: _Network(trace_config(network, batch, *pixels, layout=layout), partial(make, network))
        for name, network in found.items()
    }


def _user_network(model: "UserModel", tools: "Sequence[str]") -> dict[str, _Network]:
    from mpvit.trace.user_model import traced

    found = traced(model)
    trace = read_on_the_cpu(found.trace, tools, found.network, found.tensors)
    return {model.name: _Network(trace, lambda: (found.network, found.tensors))}

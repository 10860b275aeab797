"""``mpvit layers``: what each layer costs, as a tree."""

from typing import Annotated

import typer

from mpvit.errors import UsageError, unknown_name
from mpvit.tables.layers import layer_document
from mpvit.trace.closed_form import trace_network
from mpvit.trace.layer_tree import ORDERS, layer_tree
from mpvit_cli import options, tasks, user_model
from mpvit_cli.output import Terminal, check_format

Depth = Annotated[int, typer.Option(parser=options.whole, metavar="N", help="Levels of the tree to show, at least 1.")]
Sort = Annotated[
    str,
    typer.Option(
        metavar="|".join(ORDERS),
        help="Sort siblings, largest first, and draw bars for that figure (for MACs in the order of execution).",
        autocompletion=options.complete(ORDERS),
    ),
]
Backward = Annotated[bool, typer.Option("--backward", help="Add the MACs of the backward pass.")]


def layers(
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
    depth: Depth = 3,
    sort: Sort = "order",
    backward: Backward = False,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Show a network as a tree: parameters, MACs, activations, bytes and calls of each layer.

    Each layer is exactly the sum of what stands below it; bytes are of float32, of --model its own. JSON and CSV have
    the whole tree.

    Examples:
      mpvit layers --variant xsmall

      mpvit layers --task retinanet --variant tiny --depth 2

      mpvit layers --model my_models.vit:ViT --arg depth=12 --input 8x3x224x224 --sort params --depth 2
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    if depth < 1:
        raise UsageError(f"--depth {depth}: must be at least 1")
    if sort not in ORDERS:
        raise unknown_name("order", sort, ORDERS)
    user_model.check_model_options(ctx, model)
    if model:
        loaded = user_model.load(model, argument, inputs, terminal)
        from mpvit.trace.user_model import trace_user_model

        trees = [layer_tree(trace_user_model(loaded, backward=backward).trace, loaded.name, backward=backward)]
    else:
        numbers = {"classes": classes, "proposals": proposals, "detections": detections}
        trees = [
            layer_tree(trace_network(each, batch), each.name, backward=backward, task=each.task)
            for each in tasks.parse_networks(ctx, options.parse_models(variant, config, attention), size, task, numbers)
        ]
    terminal.show(layer_document(trees, sort, depth), form, output)

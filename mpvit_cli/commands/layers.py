"""``mpvit layers``: cost of each layer, as a tree."""

from typing import Annotated

from mpvit.errors import UsageError, unknown_name
from mpvit.tables.layers import layer_document
from mpvit.trace.closed_form import trace_network
from mpvit.trace.layer_tree import ORDERS, layer_tree
from mpvit_cli.options import Options, option
from mpvit_cli.options.answer import Answer
from mpvit_cli.options.user_model import AnyNetworks
from mpvit_cli.options.values import whole
from mpvit_cli.output import Terminal


class Tree(Options):
    """Depth, order and figures of the tree."""

    depth: Annotated[int, option("Levels of the tree to show, at least 1.", parser=whole, metavar="N")] = 3
    sort: Annotated[
        str,
        option(
            "Figure that sorts siblings, largest first, and for which bars are drawn; order is the order of execution.",
            choices=ORDERS,
        ),
    ] = "order"
    backward: Annotated[bool, option("Add the MACs of the backward pass.", "--backward")] = False

    def check(self) -> None:
        """Raise ``UsageError`` for a depth below 1 or an unknown order."""
        if self.depth < 1:
            raise UsageError(f"--depth {self.depth}: must be at least 1")
        if self.sort not in ORDERS:
            raise unknown_name("order", self.sort, ORDERS)


def layers(terminal: Terminal, networks: AnyNetworks, tree: Tree, answer: Answer) -> None:
    """Show a network as a tree: parameters, MACs, activations, bytes and calls of each layer.

    Each layer is exactly the sum of the layers below it. Bytes are those of float32, or of the dtypes of --model. JSON and CSV
    have the whole tree.

    Examples:
      mpvit layers --variant xsmall

      mpvit layers --task retinanet --variant tiny --depth 2

      mpvit layers --model my_models.vit:ViT --arg depth=12 --input 8x3x224x224 --sort params --depth 2
    """
    if networks.model:
        model = networks.load(terminal)
        from mpvit.trace.user_model import trace_user_model

        traced = trace_user_model(model, backward=tree.backward)
        trees = [layer_tree(traced.trace, model.name, backward=tree.backward)]
    else:
        trees = [
            layer_tree(trace_network(each, networks.batch), each.name, backward=tree.backward, task=each.task)
            for each in networks.networks()
        ]
    answer.show(terminal, layer_document(trees, tree.sort, tree.depth))

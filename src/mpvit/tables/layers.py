"""What each layer costs, as a tree: one table a network."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from mpvit.tables import Branch, Cell, Document, Field, Share, build
from mpvit.trace.layer_tree import LayerNode, LayerTree
from mpvit.units import times

_NAMED = 3
"""Modules that a note lists by name."""

_Shown = tuple[LayerNode, str, bool]
"""A layer, the lines that lead to it, and whether what is below it is left out."""

_KEPT = {
    "macs": ("MACs", "Params"),
    "params": ("MACs", "Params"),
    "activations": ("MACs", "Activations"),
    "bytes": ("Bytes read", "Bytes written"),
    "backward": ("MACs", "Backward MACs"),
}
"""The columns that a narrow window keeps, by the figure that the bars are of; ``backward`` for MACs with a backward pass."""


def layer_document(trees: Sequence[LayerTree], order: str, depth: int) -> Document:
    """Return the trees down to ``depth``, siblings sorted by ``order`` (one of ``ORDERS``), bars for that figure or MACs.

    The flat rows are the whole trees.
    """
    trees = [tree.sorted_by(order) for tree in trees]
    figure = "macs" if order == "order" else order
    tables = []
    for tree in trees:
        shown = list(_shown(tree.root, depth))
        title = f"{tree.label}: input {', '.join(times(shape) for shape in tree.input_shapes)}"
        tables.append(build(title, _fields(tree, figure, shown), shown))
    rows = tuple(row for tree in trees for row in tree.as_rows())
    return Document("layers", rows, tuple(tables), tuple(_notes(trees, depth)))


def _shown(layer: LayerNode, depth: int, guide: str = "", below: str = "") -> Iterator[_Shown]:
    """Yield each layer down to ``depth``; ``below`` leads on to its children."""
    yield layer, guide, depth == 0
    if depth == 0:
        return
    for child in layer.children:
        last = child is layer.children[-1]
        yield from _shown(child, depth - 1, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


def _fields(tree: LayerTree, figure: str, shown: Sequence[_Shown]) -> list[Field[_Shown]]:
    read = attrgetter(f"figures.{figure}")
    whole = read(tree.root) or 1
    label = "MACs" if figure == "macs" else figure
    kept = _KEPT["backward" if tree.backward and figure == "macs" else figure]

    def column(header: str, name: str) -> Field[_Shown]:
        value: Callable[[LayerNode], int] = attrgetter(f"figures.{name}")
        return Field(header, lambda row: value(row[0]), optional=header not in kept)

    fields: list[Field[_Shown]] = [Field("Layer", _branch, numeric=False)]
    if any(_hidden(row) for row in shown):
        fields.append(Field("Below", lambda row: _hidden(row) or ""))
    fields += [Field(f"% of {label}", lambda row: Share(read(row[0]) / whole)), column("MACs", "macs")]
    if tree.backward:
        fields.append(column("Backward MACs", "backward_macs"))
    fields += [
        column("Params", "params"),
        column("Activations", "activations"),
        column("Bytes read", "bytes_read"),
        column("Bytes written", "bytes_written"),
        column("Calls", "calls"),
        Field("Operator", lambda row: row[0].operator, numeric=False, optional=True),
    ]
    return fields


def _hidden(row: _Shown) -> int:
    layer, _, cut = row
    return layer.below if cut else 0


def _branch(row: _Shown) -> Cell:
    layer, guide, _ = row
    name = f"{layer.name} ×{layer.figures.calls}" if layer.kind == "function" else layer.name
    return Branch(layer.path or layer.name, guide, name)


def _notes(trees: Sequence[LayerTree], depth: int) -> Iterator[str]:
    yield (
        "1 MAC (multiply-add) = 2 FLOPs. MACs are those of convolutions, linear layers and matrix products, exactly; "
        "the published figures add norms and pooling (mpvit flops)."
    )
    deepest = max(level for tree in trees for _, _, level in tree.root.walk())
    if depth < deepest:
        yield f"Down to depth {depth} of {deepest} (--depth {deepest} shows all); JSON and CSV have every layer."
    if trees[0].backward:
        yield "Backward MACs: the gradients of what is trained, and of every activation behind it."
    for tree in trees:
        yield from (f"{tree.label}: {text}." for text in _remarks(tree))


def _remarks(tree: LayerTree) -> Iterator[str]:
    """Yield what is said of one network."""
    if tree.shared:
        yield (
            "shared modules count under the blocks that call them, their parameters once, where they are registered: "
            f"{_names(tree.shared)}"
        )
    if tree.tied:
        yield f"parameters that several modules own count once, at the first of them, not at {_names(tree.tied)}"
    if tree.never_called:
        yield f"never called as modules, with 0 calls and their parameters: {_names(tree.never_called)}"
    if tree.not_counted:
        operators = sorted(tree.not_counted.items(), key=lambda each: -each[1])
        yield f"no MACs in {', '.join(f'{name} ×{calls}' for name, calls in operators)}"


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")

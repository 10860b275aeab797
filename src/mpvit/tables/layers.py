"""The cost of each layer, as a tree: one table per network."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

from mpvit.tables import Branch, Cell, Document, Field, Share, build
from mpvit.trace.layer_tree import LayerNode, LayerTree
from mpvit.units import times

_NAMED = 3
"""Number of modules that a note names."""

_Row = tuple[LayerNode, str, bool]
"""A layer, the lines that lead to it, and whether its children are hidden."""

_REQUIRED = {
    "macs": ("MACs", "Params"),
    "params": ("MACs", "Params"),
    "activations": ("MACs", "Activations"),
    "bytes": ("Bytes read", "Bytes written"),
    "backward": ("MACs", "Backward MACs"),
}
"""Columns that a narrow window keeps, by the figure of the bars; ``backward`` for MACs with a backward pass."""


def layer_document(trees: Sequence[LayerTree], order: str, depth: int) -> Document:
    """Return the trees down to ``depth``, siblings sorted by ``order`` (one of ``ORDERS``), bars for that figure or MACs.

    The flat rows have every layer.
    """
    trees = [tree.sorted_by(order) for tree in trees]
    tables = []
    for tree in trees:
        shown = list(_rows(tree.root, depth))
        title = f"{tree.label}: input {', '.join(times(shape) for shape in tree.input_shapes)}"
        tables.append(build(title, _fields(tree, "macs" if order == "order" else order, shown), shown))
    rows = tuple(row for tree in trees for row in tree.as_rows())
    return Document("layers", rows, tuple(tables), tuple(_notes(trees, depth)))


def _rows(layer: LayerNode, depth: int, guide: str = "", below: str = "") -> Iterator[_Row]:
    """Yield each layer down to ``depth``; ``below`` starts the lines that lead to its children."""
    yield layer, guide, depth == 0
    for child in layer.children if depth else ():
        last = child is layer.children[-1]
        yield from _rows(child, depth - 1, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))


def _fields(tree: LayerTree, figure: str, shown: Sequence[_Row]) -> list[Field[_Row]]:
    read = attrgetter(f"figures.{figure}")
    whole = read(tree.root) or 1
    required = _REQUIRED["backward" if tree.backward and figure == "macs" else figure]

    def column(header: str, name: str) -> Field[_Row]:
        value: Callable[[LayerNode], int] = attrgetter(f"figures.{name}")
        return Field(header, lambda row: value(row[0]), optional=header not in required)

    hidden: Field[_Row] = Field("Below", lambda row: _hidden(row) or "")
    return [
        Field("Layer", _branch, numeric=False),
        *([hidden] if any(_hidden(row) for row in shown) else []),
        Field(f"% of {'MACs' if figure == 'macs' else figure}", lambda row: Share(read(row[0]) / whole)),
        column("MACs", "macs"),
        *([column("Backward MACs", "backward_macs")] if tree.backward else []),
        column("Params", "params"),
        column("Activations", "activations"),
        column("Bytes read", "bytes_read"),
        column("Bytes written", "bytes_written"),
        column("Calls", "calls"),
        Field("Operator", lambda row: row[0].operator, numeric=False, optional=True),
    ]


def _hidden(row: _Row) -> int:
    return row[0].below if row[2] else 0


def _branch(row: _Row) -> Cell:
    layer, guide, _ = row
    name = f"{layer.name} ×{layer.figures.calls}" if layer.kind == "function" else layer.name
    return Branch(layer.path or layer.name, guide, name)


def _notes(trees: Sequence[LayerTree], depth: int) -> Iterator[str]:
    yield (
        "1 MAC (multiply-add) = 2 FLOPs. MACs are those of convolutions, linear layers and matrix products, exact; the "
        "published figures (mpvit flops) add those of norms and pooling."
    )
    deepest = max(level for tree in trees for _, _, level in tree.root.walk())
    if depth < deepest:
        yield f"Shown to depth {depth} of {deepest}; JSON and CSV have every layer."
    if trees[0].backward:
        yield "Backward MACs: the gradients of trained parameters, and of every activation that depends on them."
    for tree in trees:
        yield from (f"{tree.label}: {text}." for text in _remarks(tree))


def _remarks(tree: LayerTree) -> Iterator[str]:
    if tree.shared:
        yield (
            "shared modules are counted in the blocks that call them, and their parameters once, where they are registered: "
            f"{_names(tree.shared)}"
        )
    if tree.tied:
        yield f"parameters that several modules own are counted once, in the first of them, not in {_names(tree.tied)}"
    if tree.never_called:
        yield f"never called as modules, so listed with 0 calls and their parameters: {_names(tree.never_called)}"
    if tree.not_counted:
        operators = sorted(tree.not_counted.items(), key=lambda each: -each[1])
        yield f"without MACs: {', '.join(f'{name} ×{calls}' for name, calls in operators)}"


def _names(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")

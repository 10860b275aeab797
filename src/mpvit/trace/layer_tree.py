"""A trace as a tree of layers: each node's figures are exactly the sums over its children.

The tree follows the paths of calls. A shared module's work stands under the block that calls it and its parameters once,
where it is registered. A module with layers below it owns nothing itself: its bare functions and its own parameters are
leaves beside them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal

from mpvit.dense import Task, label
from mpvit.operations import Cost
from mpvit.trace import Call, Module, Trace

ORDERS = ("order", "macs", "params", "activations", "bytes")
"""What siblings are sorted by: ``order`` is the order of execution, with what is never called behind it."""

Kind = Literal["module", "function", "parameters"]

OWN_PARAMETERS = "(parameters)"
"""The name of the leaf that holds a module's own parameters beside the layers below it."""


@dataclass(frozen=True, slots=True)
class LayerCost(Cost):
    """What a part of a forward pass costs; MACs are those of convolutions, linear layers and matrix products.

    Attributes:
        bytes_read: bytes of activations and weights read.
        bytes_written: bytes of activations written.
        calls: how often a function is called that computes.
        backward_macs: multiply-adds of the backward pass; 0 where that was not asked for.
    """

    bytes_read: int = 0
    bytes_written: int = 0
    calls: int = 0
    backward_macs: int = 0

    @property
    def bytes(self) -> int:
        """Bytes read and written."""
        return self.bytes_read + self.bytes_written


@dataclass(frozen=True, slots=True)
class LayerNode:
    """A node of the tree.

    Attributes:
        name: its name below its parent; of a function its operator.
        path: where its calls happen, from the model down; of a function it ends in ``()``. Each node has its own.
        kind: a module, a bare function, or the parameters that a module owns beside its layers.
        type: of a module the name of its class; empty where it only groups others.
        operator: of a leaf with calls, the function that it calls.
        figures: the sums over all below it.
        children: the layers below it; none of a leaf.
    """

    name: str
    path: str
    kind: Kind
    type: str
    operator: str
    figures: LayerCost
    children: tuple["LayerNode", ...] = ()

    def sorted_by(self, order: str) -> "LayerNode":
        """Return the tree with siblings in one of ``ORDERS``, the largest first and equals in the order of execution."""
        if order == "order":
            return self
        figure = attrgetter(f"figures.{order}")
        children = sorted((child.sorted_by(order) for child in self.children), key=figure, reverse=True)
        return replace(self, children=tuple(children))

    def walk(self, parent: "LayerNode | None" = None, depth: int = 0) -> Iterator[tuple["LayerNode", "LayerNode | None", int]]:
        """Yield each node with its parent and its depth, parents before their children."""
        yield self, parent, depth
        for child in self.children:
            yield from child.walk(self, depth + 1)

    @property
    def below(self) -> int:
        """The number of nodes below it."""
        return sum(1 + child.below for child in self.children)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTree:
    """What each layer of a network costs in one forward pass.

    Attributes:
        model: the network's name.
        task: the detector or segmenter that it is under; None for the network alone.
        input_shapes: of the forward pass's arguments.
        root: the network itself.
        backward: whether the figures include the backward pass.
        shared: the modules whose calls stand elsewhere than their parameters.
        tied: the modules with parameters that an earlier module owns too.
        never_called: the modules with parameters whose forward nothing calls.
        not_counted: the number of calls of each operator that has no multiply-adds.
    """

    model: str
    input_shapes: tuple[tuple[int, ...], ...]
    root: LayerNode
    backward: bool
    shared: tuple[str, ...]
    tied: tuple[str, ...]
    never_called: tuple[str, ...]
    not_counted: dict[str, int]
    task: Task | None = None

    @property
    def label(self) -> str:
        """What it is of, in few words."""
        return label(self.model, self.task)

    def sorted_by(self, order: str) -> "LayerTree":
        """Return the tree with siblings in one of ``ORDERS``."""
        return replace(self, root=self.root.sorted_by(order))

    def as_rows(self) -> list[dict[str, Any]]:
        """Return the whole tree as flat rows for JSON and CSV, parents before their children."""
        return [self._row(*place) for place in self.root.walk()]

    def _input_shape(self) -> list[Any]:
        shapes = [list(shape) for shape in self.input_shapes]
        return shapes[0] if len(shapes) == 1 else shapes

    def _row(self, layer: LayerNode, parent: LayerNode | None, depth: int) -> dict[str, Any]:
        figures = {
            name: getattr(layer.figures, name) for name in LayerCost.figures() if self.backward or name != "backward_macs"
        }
        return {
            "model": self.model,
            **(self.task.as_row() if self.task else {}),
            "input_shape": self._input_shape(),
            "path": layer.path,
            "parent": None if parent is None else parent.path,
            "depth": depth,
            "name": layer.name,
            "kind": layer.kind,
            "type": layer.type or None,
            "operator": layer.operator or None,
            **figures,
        }


def layer_tree(trace: Trace, model: str, *, backward: bool = False, task: Task | None = None) -> LayerTree:
    """Return the tree of a trace; with ``backward`` its figures include the multiply-adds of the backward pass, which ran."""
    root = _NodeBuilder(label(model, task), "", "module")
    for call in trace.calls:
        place = root.at(call.path)
        place.type = trace.modules[call.module].type
        work = LayerCost(0, call.macs, call.activations, call.bytes_read, call.bytes_written, 1)
        place.child("function", call.operator, f"{call.operator}()").figures += work
    for (path, operator), macs in (trace.backward or {}).items() if backward else ():
        root.at(path).child("function", operator, f"{operator}()").figures += LayerCost(backward_macs=macs)
    for name, module in trace.modules.items():
        place = root.at(name)
        place.type = module.type
        if module.parameters:
            place.child("parameters", OWN_PARAMETERS, OWN_PARAMETERS).figures += LayerCost(module.params)
    return LayerTree(
        model=model,
        input_shapes=trace.input_shapes,
        root=root.layer(),
        backward=backward,
        shared=_owning(trace.modules, {call.module for call in trace.calls if call.path != call.module}),
        tied=tuple(name for name, module in trace.modules.items() if module.tied),
        never_called=_owning(trace.modules, trace.modules.keys() - _running(trace.calls)),
        not_counted=trace.not_counted(),
        task=task,
    )


def _owning(modules: dict[str, Module], names: set[str]) -> tuple[str, ...]:
    """Return those of ``names`` whose modules own parameters, in the order of registration."""
    return tuple(name for name, module in modules.items() if name in names and module.parameters)


def _running(calls: tuple[Call, ...]) -> set[str]:
    """Return the names of the modules in whose forward something is called, directly or further in."""
    words = {tuple(name.split(".")) for call in calls for name in (call.path, call.module)}
    return {"", *(".".join(each[:length]) for each in words for length in range(1, len(each) + 1))}


@dataclass(slots=True)
class _NodeBuilder:
    """A node while the tree is made; its children come in the order of execution."""

    name: str
    path: str
    kind: Kind
    type: str = ""
    figures: LayerCost = field(default_factory=LayerCost)
    children: "dict[str, _NodeBuilder]" = field(default_factory=dict)

    def at(self, path: str) -> "_NodeBuilder":
        """Return the module's place at ``path`` below this one."""
        place = self
        for name in path.split(".") if path else ():
            place = place.child("module", name, name)
        return place

    def child(self, kind: Kind, name: str, word: str) -> "_NodeBuilder":
        """Return the child ``word``, a new one where there is none."""
        if word not in self.children:
            self.children[word] = _NodeBuilder(name, f"{self.path}.{word}".lstrip("."), kind)
        return self.children[word]

    def layer(self) -> LayerNode:
        """Return the finished node: a module that only calls one function, perhaps with parameters, is a leaf."""
        children = tuple(child.layer() for child in self.children.values())
        figures = sum((child.figures for child in children), self.figures)
        functions = [child.operator for child in children if child.kind == "function"]
        if all(child.kind != "module" for child in children) and len(functions) <= 1:
            operator = self.name if self.kind == "function" else "".join(functions)
            children = ()
        else:
            operator = ""
        return LayerNode(self.name, self.path, self.kind, self.type, operator, figures, children)

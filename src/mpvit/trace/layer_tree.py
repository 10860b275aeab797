"""A trace as a tree of layers: the figures of each node are exactly the sums over its children.

The tree follows the paths of calls. The work of a shared module counts under each block that calls it, and its parameters
once, where it is registered. The functions that a module with layers calls itself, and its own parameters, are leaves next to
these layers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, Literal

from mpvit.dense import Task, label
from mpvit.operations import Cost
from mpvit.trace import Call, Module, Trace

ORDERS = ("order", "macs", "params", "activations", "bytes")
"""The keys to sort siblings by; ``order`` is the order of execution, with modules that are never called last."""

Kind = Literal["module", "function", "parameters"]

OWN_PARAMETERS = "(parameters)"
"""Name of the leaf with a module's own parameters, if there are layers below the module."""


@dataclass(frozen=True, slots=True)
class LayerCost(Cost):
    """The cost of a part of a forward pass; MACs are those of convolutions, linear layers and matrix products.

    Attributes:
        bytes_read: bytes of activations and weights read.
        bytes_written: bytes of activations written.
        calls: number of calls of functions that compute.
        backward_macs: multiply-adds of the backward pass; 0 if it was not asked for.
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
        name: name below the parent; the operator if it is a function.
        path: path of its calls from the network on, unique in the tree; that of a function ends in ``()``.
        kind: a module, a function, or the parameters that a module with layers owns itself.
        type: name of the module's class; empty for a node that only groups others.
        operator: the function that a leaf calls; empty for other nodes.
        figures: sums over all nodes below it.
        children: nodes directly below it.
    """

    name: str
    path: str
    kind: Kind
    type: str
    operator: str
    figures: LayerCost
    children: tuple["LayerNode", ...] = ()

    def sorted_by(self, order: str) -> "LayerNode":
        """Return the tree with siblings sorted by one of ``ORDERS``, the largest first, equals in the order of execution."""
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
        """Number of nodes below it."""
        return sum(1 + child.below for child in self.children)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTree:
    """The cost of each layer of a network in one forward pass.

    Attributes:
        model: name of the network.
        task: the detector or segmenter on the network; None for the network alone.
        input_shapes: shapes of the inputs.
        root: the network itself.
        backward: whether the figures include the backward pass.
        shared: names of the modules with parameters that are called elsewhere than where they are registered.
        tied: names of the modules with parameters that an earlier module shares.
        never_called: names of the modules with parameters whose forward is never called.
        not_counted: number of calls of each operator without multiply-adds.
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
        """The name of the network, together with that of the task if there is one."""
        return label(self.model, self.task)

    def sorted_by(self, order: str) -> "LayerTree":
        """Return the tree with siblings sorted by one of ``ORDERS``."""
        return replace(self, root=self.root.sorted_by(order))

    def as_rows(self) -> list[dict[str, Any]]:
        """Return the whole tree as flat rows for JSON and CSV, parents before their children."""
        return [self._row(*node) for node in self.root.walk()]

    def _row(self, layer: LayerNode, parent: LayerNode | None, depth: int) -> dict[str, Any]:
        figures = [name for name in LayerCost.figures() if self.backward or name != "backward_macs"]
        shapes = [list(shape) for shape in self.input_shapes]
        return {
            "model": self.model,
            **(self.task.as_row() if self.task else {}),
            "input_shape": shapes[0] if len(shapes) == 1 else shapes,
            "path": layer.path,
            "parent": None if parent is None else parent.path,
            "depth": depth,
            "name": layer.name,
            "kind": layer.kind,
            "type": layer.type or None,
            "operator": layer.operator or None,
            **{name: getattr(layer.figures, name) for name in figures},
        }


def layer_tree(trace: Trace, model: str, *, backward: bool = False, task: Task | None = None) -> LayerTree:
    """Return the tree of a trace; with ``backward`` its figures include those of the backward pass, if it ran."""
    root = _NodeBuilder(label(model, task), "", "module")
    for call in trace.calls:
        node = root.at(call.path)
        node.type = trace.modules[call.module].type
        work = LayerCost(0, call.macs, call.activations, call.bytes_read, call.bytes_written, 1)
        node.child("function", call.operator, f"{call.operator}()").figures += work
    for (path, operator), macs in (trace.backward or {}).items() if backward else ():
        root.at(path).child("function", operator, f"{operator}()").figures += LayerCost(backward_macs=macs)
    for name, module in trace.modules.items():
        node = root.at(name)
        node.type = module.type
        if module.parameters:
            node.child("parameters", OWN_PARAMETERS, OWN_PARAMETERS).figures += LayerCost(module.params)
    return LayerTree(
        model=model,
        input_shapes=trace.input_shapes,
        root=root.finished(),
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
    """Return the names of the modules in whose forward pass a function is called, directly or below."""
    words = {tuple(name.split(".")) for call in calls for name in (call.path, call.module)}
    return {"", *(".".join(each[:length]) for each in words for length in range(1, len(each) + 1))}


@dataclass(slots=True)
class _NodeBuilder:
    """A node while the tree grows; its children are in the order of execution."""

    name: str
    path: str
    kind: Kind
    type: str = ""
    figures: LayerCost = field(default_factory=LayerCost)
    children: "dict[str, _NodeBuilder]" = field(default_factory=dict)

    def at(self, path: str) -> "_NodeBuilder":
        """Return the node of the module at ``path`` below this one."""
        node = self
        for name in path.split(".") if path else ():
            node = node.child("module", name, name)
        return node

    def child(self, kind: Kind, name: str, word: str) -> "_NodeBuilder":
        """Return the child ``word``, a new one if there is none."""
        if word not in self.children:
            self.children[word] = _NodeBuilder(name, f"{self.path}.{word}".lstrip("."), kind)
        return self.children[word]

    def finished(self) -> LayerNode:
        """Return the finished node: a module that calls only one function, with or without parameters, is a leaf."""
        children = tuple(child.finished() for child in self.children.values())
        figures = sum((child.figures for child in children), self.figures)
        functions = [child.operator for child in children if child.kind == "function"]
        if all(child.kind != "module" for child in children) and len(functions) <= 1:
            operator = self.name if self.kind == "function" else "".join(functions)
            children = ()
        else:
            operator = ""
        return LayerNode(self.name, self.path, self.kind, self.type, operator, figures, children)

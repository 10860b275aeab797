"""Primitive operations with their shapes, parameters and multiply-adds, and trees of them.

A ``Tape`` (``mpvit.operations.tape``) records the operations of a network; ``mpvit.operations.conventions`` adds them up.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from math import prod
from operator import add, sub
from typing import Any, NamedTuple, Self

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of a network or of a part of it. Costs of parts add up; ``Cost()`` is zero.

    A subclass may add figures. If one of two costs lacks a figure (None), their sum and difference lack it too.

    Attributes:
        params: parameters, each counted once.
        macs: multiply-adds under one convention.
        activations: output elements of convolutions, linear layers and matrix products, which is fvcore's activation count.
    """

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Self) -> Self:
        """Return the sum of each figure."""
        return self._combined(add, other)

    def __sub__(self, other: Self) -> Self:
        """Return the difference of each figure."""
        return self._combined(sub, other)

    @classmethod
    def figures(cls) -> tuple[str, ...]:
        """Return the names of the figures in order."""
        return tuple(each.name for each in fields(cls))

    def _combined(self, operator: Callable[[int, int], int], other: Self) -> Self:
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.figures()}
        combined: dict[str, Any] = {name: None if None in pair else operator(*pair) for name, pair in pairs.items()}
        return type(self)(**combined)


class Operation(NamedTuple):
    """One primitive operation.

    Attributes:
        kind: conv, linear, matmul, sdpa, batch_norm, layer_norm, pool, gelu, hardswish, softmax, add, mul, cat, ...
        input_shape: shape of the first operand: (B, C, H, W) for a feature map, (B, N, C) for tokens.
        output_shape: shape of the result.
        params: parameters that this operation owns.
        macs: multiply-adds of one call; 0 unless the operation is a sum of products.
        calls: number of calls. A shared module is registered once, with its parameters and 0 calls; each block that calls
            it holds an operation with 1 call and no parameters.
        shared: for a call of a shared module, the module's name inside the enclosing ``Block(scope=True)``.
        others: shapes of the other activations that the operation reads, such as the second addend.
        weights: shapes of the parameters and buffers that the operation reads; a weight comes before its bias.
        buffers: whether all of ``weights`` are buffers, which get no gradient.
        weight_names: names of the parameters in the module that owns them.
        module: class name of the called module, which a hook can observe; empty for a function call.
        equation: equation of an einsum.
        stride: stride of a convolution.
    """

    kind: str
    input_shape: Shape
    output_shape: Shape
    params: int = 0
    macs: int = 0
    calls: int = 1
    shared: str = ""
    others: tuple[Shape, ...] = ()
    weights: tuple[Shape, ...] = ()
    buffers: bool = False
    weight_names: tuple[str, ...] = ("weight", "bias")
    module: str = ""
    equation: str = ""
    stride: int = 1

    @property
    def elements_read(self) -> int:
        """Elements of the activations and weights that one call reads."""
        return prod(self.input_shape) + sum(map(prod, self.others)) + sum(map(prod, self.weights))

    @property
    def elements_written(self) -> int:
        """Elements that one call writes."""
        return prod(self.output_shape)

    @property
    def activations(self) -> int:
        """Output elements of all calls of a convolution, linear layer or matrix product; 0 for other operations."""
        return self.calls * prod(self.output_shape) if self.kind in MULTIPLYING else 0


MULTIPLYING = ("conv", "linear", "matmul", "sdpa")
"""Kinds of operation that are sums of products."""


class Block(NamedTuple):
    """A named group of operations. The path of names leads to the module of the same path in the torch network.

    Attributes:
        children: operations and blocks by name, in the order of execution.
        scope: whether the modules that the descendants share are registered here.
        module: class name of the called module; empty for a group that is no module.
        shared: as in ``Operation``.
    """

    children: dict[str, "Operation | Block"]
    scope: bool = False
    module: str = ""
    shared: str = ""

    def block(self, name: str) -> "Block":
        """Return the child ``name``, which must be a block."""
        child = self.children[name]
        assert isinstance(child, Block), f"{name} is a single operation"  # noqa: S101 - an internal invariant
        return child


Node = Operation | Block


def strided_length(size: int, stride: int) -> int:
    """Return the output length of an odd window with "same" padding: floor((size - 1) / stride) + 1."""
    return (size - 1) // stride + 1


def registered(node: Node) -> Node:
    """Return ``node`` as the registration of a shared module: with its parameters, without calls."""
    if isinstance(node, Operation):
        return node._replace(calls=0)
    children = {name: registered(child) for name, child in node.children.items() if _owns_parameters(child)}
    return Block(children, node.scope, node.module)


def called(node: Node, name: str) -> Node:
    """Return ``node`` as a call of the shared module ``name``: with its work, without parameters."""
    if isinstance(node, Operation):
        return node._replace(params=0, shared=name if _owns_parameters(node) else "")
    children = {child: called(inner, f"{name}.{child}") for child, inner in node.children.items()}
    return Block(children, node.scope, node.module, name)


def _owns_parameters(node: Node) -> bool:
    return node.params > 0 if isinstance(node, Operation) else any(map(_owns_parameters, node.children.values()))


def walk(node: Node, path: str = "", scope: str = "") -> Iterator[tuple[str, str, Operation]]:
    """Yield (path, module, operation) for each operation in ``node``, in order.

    ``path`` is the path of the call; ``module`` is the path of the registered module, which differs for a shared one.
    """
    if isinstance(node, Operation):
        yield path, (f"{scope}.{node.shared}".lstrip(".") if node.shared else path), node
        return
    inner_scope = path if node.scope else scope
    for name, child in node.children.items():
        yield from walk(child, f"{path}.{name}" if path else name, inner_scope)


def occurrences(node: Node) -> Iterator[tuple[Operation, int]]:
    """Yield each operation object in ``node``, the last first, and how often it occurs: equal modules are one object."""
    times = {id(node): 1}
    for key, each in reversed(_in_order(node, {}).items()):
        count = times[key]
        if isinstance(each, Operation):
            yield each, count
            continue
        for child in map(id, each.children.values()):
            times[child] = times.get(child, 0) + count


def _in_order(node: Node, found: dict[int, Node]) -> dict[int, Node]:
    """Add ``node`` to the nodes that are ``found``, and before it the nodes below it, each object once."""
    key = id(node)
    if key not in found:
        if isinstance(node, Block):
            for child in node.children.values():
                _in_order(child, found)
        found[key] = node
    return found

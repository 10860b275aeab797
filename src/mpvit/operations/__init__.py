"""What one primitive operation costs, in closed form, and trees of them.

An ``Operation`` is one call of a convolution, linear layer, matrix product, norm, ...: its shapes, parameters and
multiply-adds. A ``Block`` names its children; every figure of a block is the sum over them. What of it counts how much is
a convention (``mpvit.operations.conventions``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import prod
from operator import add, sub
from typing import Any, NamedTuple, Self

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network or a part of it costs; every figure adds up over parts. ``Cost()`` is nothing, where a sum starts.

    Who counts more than these extends it; a figure that such a one lacks is None, and so is every sum with it.

    Attributes:
        params: learned numbers, each once.
        macs: multiply-adds, of what a convention counts.
        activations: output elements of convolutions, linear layers and matrix products, as fvcore counts activations.
    """

    params: int = 0
    macs: int = 0
    activations: int = 0

    def __add__(self, other: Self) -> Self:
        """Return the sum, figure by figure."""
        return self._with(add, other)

    def __sub__(self, other: Self) -> Self:
        """Return the difference, figure by figure."""
        return self._with(sub, other)

    @classmethod
    def figures(cls) -> tuple[str, ...]:
        """Return the names of the figures, in their order."""
        return tuple(each.name for each in fields(cls))

    def _with(self, combine: Callable[[int, int], int], other: Self) -> Self:
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in self.figures()}
        combined: dict[str, Any] = {name: None if None in pair else combine(*pair) for name, pair in pairs.items()}
        return type(self)(**combined)


class Operation(NamedTuple):
    """One primitive operation.

    Attributes:
        kind: conv, linear, matmul, sdpa, batch_norm, layer_norm, pool, gelu, hardswish, softmax, add, mul, cat, ...
        input_shape: (B, C, H, W) on the grid, (B, N, C) on tokens; the left operand of a matmul.
        output_shape: likewise.
        params: learned numbers that this operation owns.
        macs: multiply-adds of one call; 0 for what multiplies no matrix.
        calls: how often it runs here. A shared module is registered once with its parameters and 0 calls; each block
            that calls it holds an operation with 1 call and no parameters.
        shared: of such a call, the module's name below the enclosing ``Block(scope=True)``.
        others: the shapes of further activations that it reads, such as the second addend.
        weights: the shapes of the parameters and buffers that it reads, a weight before its bias.
        buffers: whether those are buffers alone, which take no gradient.
        weight_names: their names in the module that owns them.
        module: the class of the module that it is a call of, which hooks can see; empty for a bare function.
        equation: of a matmul, in Einstein's notation.
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

    @property
    def elements_read(self) -> int:
        """Numbers that one call reads: activations and weights."""
        return prod(self.input_shape) + sum(map(prod, self.others)) + sum(map(prod, self.weights))

    @property
    def elements_written(self) -> int:
        """Numbers that one call writes."""
        return prod(self.output_shape)

    @property
    def activations(self) -> int:
        """Output elements of convolutions, linear layers and matmuls over all calls, as fvcore counts activations."""
        return self.calls * prod(self.output_shape) if self.kind in MULTIPLYING else 0


MULTIPLYING = ("conv", "linear", "matmul", "sdpa")
"""The kinds of operation that are sums of products."""


@dataclass(frozen=True, slots=True)
class Block:
    """A named group of operations. The names lead to the network's module of the same path.

    ``scope`` marks the block that registers what the calls below it share. ``module`` is the class of the module that the
    block is a call of; empty for a mere group, whose operations happen in the block around it. ``shared`` is as an
    operation's.
    """

    children: dict[str, "Operation | Block"] = field(default_factory=dict)
    scope: bool = False
    module: str = ""
    shared: str = ""

    def block(self, name: str) -> "Block":
        """Return the child ``name``, which is a block and no single operation."""
        child = self.children[name]
        assert isinstance(child, Block), f"{name} is a single operation"  # noqa: S101 - an internal invariant
        return child


Node = Operation | Block


# ── primitives: shapes in, one operation out ────────────────────────────────────────────────────────────────────────


def strided_length(size: int, stride: int) -> int:
    """Return the output length of an odd, "same"-padded window over ``size``: floor((size - 1) / stride) + 1."""
    return (size - 1) // stride + 1


def conv(input_shape: Shape, out: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False) -> Operation:
    """2-d convolution with padding (kernel - 1) // 2, (B, C, H, W) -> (B, out, H', W'); B·out·H'·W'·kernel²·C/groups MACs."""
    batch, channels, height, width = input_shape
    output_shape = (batch, out, strided_length(height, stride), strided_length(width, stride))
    taps = kernel * kernel * (channels // groups)
    weights: tuple[Shape, ...] = ((out, channels // groups, kernel, kernel), (out,))[: 1 + bias]
    params = out * taps + out * bias
    return Operation("conv", input_shape, output_shape, params, prod(output_shape) * taps, weights=weights, module="Conv2d")


def transposed_conv(input_shape: Shape, out: int, kernel: int) -> Operation:
    """Transposed convolution whose stride is its kernel, with bias, (B, C, H, W) -> (B, out, kernel·H, kernel·W).

    Each input element is multiplied with kernel²·out weights.
    """
    batch, channels, height, width = input_shape
    output_shape = (batch, out, kernel * height, kernel * width)
    weights: tuple[Shape, ...] = ((channels, out, kernel, kernel), (out,))
    macs = prod(input_shape) * out * kernel * kernel
    params = sum(map(prod, weights))
    return Operation("conv", input_shape, output_shape, params, macs, weights=weights, module="ConvTranspose2d")


def linear(input_shape: Shape, out: int, *, bias: bool = True) -> Operation:
    """Linear layer on the last axis, (..., C) -> (..., out); C MACs an output element, a bias adds none."""
    *leading, channels = input_shape
    output_shape = (*leading, out)
    weights: tuple[Shape, ...] = ((out, channels), (out,))[: 1 + bias]
    params = out * channels + out * bias
    return Operation(
        "linear", input_shape, output_shape, params, prod(output_shape) * channels, weights=weights, module="Linear"
    )


def einsum(equation: str, left: Shape, right: Shape) -> Operation:
    """Product of two tensors in Einstein's notation, "bnk,bkm->bnm"; each output element sums over the letters it lacks."""
    terms, result = equation.split("->")
    sizes = dict(zip(terms.replace(",", ""), (*left, *right), strict=True))
    output_shape = tuple(sizes[letter] for letter in result)
    return Operation("matmul", left, output_shape, 0, prod(sizes.values()), others=(right,), equation=equation)


def norm(kind: str, shape: Shape, channels: int) -> Operation:
    """``batch_norm``, ``layer_norm`` or ``group_norm`` with a weight and a bias a channel; the first reads statistics too."""
    module, tensors = _NORMS[kind]
    return Operation(kind, shape, shape, 2 * channels, weights=((channels,),) * tensors, module=module)


_NORMS = {"batch_norm": ("BatchNorm2d", 4), "layer_norm": ("LayerNorm", 2), "group_norm": ("GroupNorm", 2)}


def activation(kind: str, shape: Shape) -> Operation:
    """``gelu``, ``hardswish`` or ``relu``, as a module."""
    return Operation(kind, shape, shape, module=_ACTIVATIONS[kind])


_ACTIVATIONS = {"gelu": "GELU", "hardswish": "Hardswish", "relu": "ReLU"}


def elementwise(kind: str, shape: Shape, *others: Shape) -> Operation:
    """``softmax``, ``add``, ``mul``, ...: shape kept, nothing learned, no multiply-adds; ``others`` are further operands."""
    return Operation(kind, shape, shape, others=others)


def reduction(kind: str, input_shape: Shape, output_shape: Shape) -> Operation:
    """``sum`` or ``amax`` over axes that ``output_shape`` has lost or kept with length 1."""
    return Operation(kind, input_shape, output_shape)


def cat(shapes: Sequence[Shape], output_shape: Shape) -> Operation:
    """Concatenation: every number read and written once."""
    return Operation("cat", shapes[0], output_shape, others=tuple(shapes[1:]))


def function(operation: Operation) -> Operation:
    """Return ``operation`` as a bare function on parameters of the module around it, where no hook sees it."""
    return operation._replace(module="")


def global_pool(input_shape: Shape) -> Operation:
    """Adaptive average pooling to one position, (B, C, H, W) -> (B, C, 1, 1)."""
    return adaptive_pool(input_shape, 1)


def adaptive_pool(input_shape: Shape, side: int) -> Operation:
    """Adaptive average pooling, (B, C, H, W) -> (B, C, side, side)."""
    return Operation("pool", input_shape, (*input_shape[:2], side, side))


def upsample(mode: str, input_shape: Shape, grid: Sequence[int]) -> Operation:
    """Interpolation, ``nearest`` or ``bilinear``, to a grid of (height, width), (B, C, H, W) -> (B, C, height, width)."""
    return Operation(f"upsample_{mode}2d", input_shape, (*input_shape[:2], *grid))


# ── shared modules ──────────────────────────────────────────────────────────────────────────────────────────────────


def registered(node: Node) -> Node:
    """Return ``node`` as the registration of a shared module: its parameters, no calls."""
    if isinstance(node, Operation):
        return node._replace(calls=0)
    children = {name: registered(child) for name, child in node.children.items() if is_module(child)}
    return Block(children, node.scope, node.module)


def called(node: Node, name: str) -> Node:
    """Return ``node`` as a call of the shared module ``name``: its work, no parameters."""
    if isinstance(node, Operation):
        return node._replace(params=0, shared=name if is_module(node) else "")
    children = {child: called(inner, f"{name}.{child}") for child, inner in node.children.items()}
    return Block(children, node.scope, node.module, name)


def is_module(node: Node) -> bool:
    """Tell whether ``node`` owns parameters, so that calling it twice is sharing."""
    return node.params > 0 if isinstance(node, Operation) else any(is_module(child) for child in node.children.values())


def walk(node: Node, path: str = "", scope: str = "") -> Iterator[tuple[str, str, Operation]]:
    """Yield (path, module, operation) for each operation below ``node``, in order.

    ``path`` is where the call happens; ``module`` the registered module's path, which differs for a shared one.
    """
    if isinstance(node, Operation):
        yield path, (f"{scope}.{node.shared}".lstrip(".") if node.shared else path), node
        return
    inner_scope = path if node.scope else scope
    for name, child in node.children.items():
        yield from walk(child, f"{path}.{name}" if path else name, inner_scope)

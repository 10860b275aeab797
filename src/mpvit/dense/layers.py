"""What several heads are made of: a convolution with norm and ReLU, and modules that all levels share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.operations import Block, Node, Operation, Shape, activation, called, conv, is_module, norm, registered, upsample
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

GROUPS = 32
"""Of a group norm, as Wu & He, ECCV 2018, have it."""


def conv_norm_relu(channels: int, out: int, kernel: int, kind: str = "batch_norm") -> nn.Sequential:
    """Return a convolution without bias and padded to "same", a norm (``group_norm`` or ``batch_norm``) and a ReLU."""
    from torch import nn

    normed = nn.BatchNorm2d(out) if kind == "batch_norm" else nn.GroupNorm(GROUPS, out)
    return nn.Sequential(nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False), normed, nn.ReLU())


def conv_norm_relu_cost(shape: Shape, out: int, kernel: int, kind: str = "batch_norm") -> Block:
    """Return the operations of ``conv_norm_relu`` on (B, C, H, W)."""
    convolution = conv(shape, out, kernel)
    shape = convolution.output_shape
    return Block({"0": convolution, "1": norm(kind, shape, out), "2": activation("relu", shape)}, module="Sequential")


def record_conv_norm_relu(tape: Tape, x: Strided, out: int, kernel: int, kind: str = "batch_norm") -> Strided:
    """Return the result of ``conv_norm_relu`` in training, recorded on ``tape``."""
    x = tape.conv(x, parameter(out, x.shape[1], kernel, kernel))
    return tape.relu(tape.batch_norm(x) if kind == "batch_norm" else tape.group_norm(x, GROUPS))


def convs_relu(channels: int, count: int) -> list[nn.Module]:
    """Return ``count`` 3x3 convolutions with bias that keep ``channels``, a ReLU behind each."""
    from torch import nn

    pairs = ((nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(count))
    return [module for pair in pairs for module in pair]


def convs_relu_cost(shape: Shape, count: int) -> list[Operation]:
    """Return the operations of ``convs_relu`` on (B, C, H, W)."""
    return [conv(shape, shape[1], 3, bias=True), activation("relu", shape)] * count


def record_convs_relu(tape: Tape, x: Strided, weights: Sequence[Strided]) -> Strided:
    """Return the result of ``convs_relu`` with these weights, recorded on ``tape``."""
    for weight in weights:
        x = tape.relu(tape.conv(x, weight))
    return x


def weights_of_convs(channels: int, count: int) -> list[Strided]:
    """Return the weights of ``convs_relu``, which every level of a shared module takes."""
    return [parameter(channels, channels, 3, 3) for _ in range(count)]


def sequential(operations: Sequence[Node]) -> Block:
    """Return the operations of an ``nn.Sequential`` of modules."""
    return Block({str(index): operation for index, operation in enumerate(operations)}, module="Sequential")


def shared(name: str, module: Callable[[Shape], Block], shapes: Sequence[Shape]) -> Block:
    """Return the operations of a module that runs on the map of each level with the same weights.

    ``name`` is its own below the head, whose block is the scope.
    """
    first = module(shapes[0])
    own = {child: registered(node) for child, node in first.children.items() if is_module(node)}
    levels = {str(level): called(module(shape), name) for level, shape in enumerate(shapes)}
    return Block({**own, "levels": Block(levels)}, module=first.module)


def to_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Map (B, C, H, W) -> (B, C, height, width), bilinear; ``size`` is (height, width)."""
    from torch.nn.functional import interpolate

    return interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def to_size_cost(shape: Shape, size: Sequence[int]) -> Operation:
    """Return the operation of ``to_size``."""
    return upsample("bilinear", shape, size)

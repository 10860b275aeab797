"""Semantic FPN: a pyramid's levels brought to stride 4 and summed (Kirillov et al., CVPR 2019, arXiv:1901.02446, figure 3).

The pyramid has 256 channels. The level at stride 32 goes three times, that at 16 twice and that at 8 once through a 3x3
convolution to 128 channels, a norm, a ReLU and bilinear upsampling to the next finer grid; that at 4 goes through one
convolution, norm and ReLU. A 1x1 convolution with bias gives the classes of the sum. The norm is a group norm of 32 groups,
and the convolutions before it have no bias.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from mpvit.dense import Head, Layers, Task, fpn
from mpvit.dense.layers import conv_norm_relu, conv_norm_relu_cost, record_conv_norm_relu, to_size, to_size_cost
from mpvit.operations import Block, Node, Shape, conv, elementwise
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

WIDTH = 128


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for maps of ``channels``."""
    from torch import nn

    return {
        "fpn": nn.ModuleDict(fpn.modules(channels)),
        "branches": nn.ModuleList(nn.ModuleList(_steps(level)) for level in range(len(channels))),
        "classifier": nn.Conv2d(WIDTH, task.classes, 1),
    }


def _steps(level: int) -> list[nn.Sequential]:
    """Return the convolutions of a level's branch, ``level`` 0 the finest, which has as many as the next."""
    return [conv_norm_relu(WIDTH if step else fpn.WIDTH, WIDTH, 3, "group_norm") for step in range(max(level, 1))]


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Map each (B, C, H, W) -> logits at the image's size, (B, K, height, width)."""
    maps = []
    for level, (branch, x) in enumerate(zip(layers["branches"], fpn.forward(layers["fpn"], pyramid), strict=True)):
        y = x
        for step, layer in enumerate(branch):
            y = layer(y)
            if level:
                y = to_size(y, pyramid[level - step - 1].shape[2:])
        maps.append(y)  # (B, 128, H, W) at stride 4
    return to_size(layers["classifier"](reduce(lambda x, y: x + y, maps)), size)


def cost(shapes: Sequence[Shape], task: Task, size: tuple[int, int]) -> Block:
    """Return the operations of ``forward``."""
    batch, _, *grid = shapes[0]
    summed = (batch, WIDTH, *grid)
    branches: dict[str, Node] = {str(level): _branch_cost(shapes, level) for level in range(len(shapes))}
    sums = dict.fromkeys(map(str, range(len(shapes) - 1)), elementwise("add", summed, summed))
    classifier = conv(summed, task.classes, 1, bias=True)
    return Block(
        {
            "fpn": fpn.cost(shapes),
            "branches": Block(branches),
            "sum": Block({**sums}),
            "classifier": classifier,
            "upsample": to_size_cost(classifier.output_shape, size),
        },
        module="DenseHead",
    )


def _branch_cost(shapes: Sequence[Shape], level: int) -> Block:
    batch, _, *grid = shapes[level]
    children: dict[str, Node] = {}
    shape: Shape = (batch, fpn.WIDTH, *grid)
    for step in range(max(level, 1)):
        children[str(step)] = conv_norm_relu_cost(shape, WIDTH, 3, "group_norm")
        shape = (batch, WIDTH, *shape[2:])
        if level:
            finer = to_size_cost(shape, shapes[level - step - 1][2:])
            children[f"upsample {step}"], shape = finer, finer.output_shape
    return Block(children)


def record(tape: Tape, pyramid: Sequence[Strided], task: Task, size: tuple[int, int]) -> list[Strided]:
    """Return the output of ``forward``, recorded on ``tape``."""
    maps = []
    for level, x in enumerate(fpn.record(tape, pyramid)):
        y = x
        for step in range(max(level, 1)):
            y = record_conv_norm_relu(tape, y, WIDTH, 3, "group_norm")
            if level:
                y = tape.upsample(y, pyramid[level - step - 1].shape[2:])
        maps.append(y)
    return [tape.upsample(tape.conv(reduce(tape.add, maps), parameter(task.classes, WIDTH, 1, 1)), size)]


HEAD = Head(modules=modules, forward=forward, cost=cost, record=record)

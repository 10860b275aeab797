"""RetinaNet: classes and boxes of 9 anchors at every position of five levels (Lin et al., ICCV 2017, arXiv:1708.02002).

A pyramid on strides 8, 16 and 32; P6 is a 3x3 convolution of stride 2 of the backbone's last map and P7 one of P6 behind
a ReLU. Two subnets, each shared by the levels: four 3x3 convolutions with ReLU, then one to 9·K scores or 9·4 offsets.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mpvit.dense import Head, Layers, Task, fpn
from mpvit.dense.layers import convs_relu, convs_relu_cost, record_convs_relu, sequential, shared, weights_of_convs
from mpvit.operations import Block, Shape, activation, conv, function
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

ANCHORS = 9
DEPTH = 4
"""Convolutions of a subnet before its last."""

FINEST = 1
"""The first map of the backbone that is taken: at stride 8."""


class Boxes(NamedTuple):
    """What the five levels say, P3 to P7: scores before the sigmoid (B, 9·K, H, W), box offsets (B, 9·4, H, W)."""

    classes: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for maps of ``channels``."""
    from torch import nn

    coarse = {
        "p6": nn.Conv2d(channels[-1], fpn.WIDTH, 3, stride=2, padding=1),
        "p7": nn.Conv2d(fpn.WIDTH, fpn.WIDTH, 3, stride=2, padding=1),
    }
    return {
        "fpn": nn.ModuleDict(fpn.modules(channels[FINEST:])),
        "coarse": nn.ModuleDict(coarse),
        "class_subnet": _subnet(ANCHORS * task.classes),
        "box_subnet": _subnet(ANCHORS * 4),
    }


def _subnet(out: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(*convs_relu(fpn.WIDTH, DEPTH), nn.Conv2d(fpn.WIDTH, out, 3, padding=1))


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Boxes:
    """Map each (B, C, H, W) -> ``Boxes``."""
    from torch.nn.functional import relu

    maps = fpn.forward(layers["fpn"], pyramid[FINEST:])
    p6 = layers["coarse"]["p6"](pyramid[-1])
    levels = [*maps, p6, layers["coarse"]["p7"](relu(p6))]
    return Boxes(tuple(map(layers["class_subnet"], levels)), tuple(map(layers["box_subnet"], levels)))


def cost(shapes: Sequence[Shape], task: Task, size: tuple[int, int]) -> Block:
    """Return the operations of ``forward``."""
    p6 = conv(shapes[-1], fpn.WIDTH, 3, stride=2, bias=True)
    p7 = conv(p6.output_shape, fpn.WIDTH, 3, stride=2, bias=True)
    levels = [*fpn.widened(shapes[FINEST:]), p6.output_shape, p7.output_shape]
    relu = function(activation("relu", p6.output_shape))
    return Block(
        {
            "fpn": fpn.cost(shapes[FINEST:]),
            "coarse": Block({"p6": p6, "relu": relu, "p7": p7}),
            "class_subnet": shared("class_subnet", partial(_subnet_cost, ANCHORS * task.classes), levels),
            "box_subnet": shared("box_subnet", partial(_subnet_cost, ANCHORS * 4), levels),
        },
        scope=True,
        module="DenseHead",
    )


def _subnet_cost(out: int, shape: Shape) -> Block:
    return sequential([*convs_relu_cost(shape, DEPTH), conv(shape, out, 3, bias=True)])


def record(tape: Tape, pyramid: Sequence[Strided], task: Task, size: tuple[int, int]) -> list[Strided]:
    """Return the outputs of ``forward``, recorded on ``tape``."""
    maps = fpn.record(tape, pyramid[FINEST:])
    p6 = tape.conv(pyramid[-1], parameter(fpn.WIDTH, pyramid[-1].shape[1], 3, 3), 2)
    levels = [*maps, p6, tape.conv(tape.relu(p6), parameter(fpn.WIDTH, fpn.WIDTH, 3, 3), 2)]
    outputs: list[Strided] = []
    for out in (ANCHORS * task.classes, ANCHORS * 4):
        weights, last = weights_of_convs(fpn.WIDTH, DEPTH), parameter(out, fpn.WIDTH, 3, 3)
        outputs += [tape.conv(record_convs_relu(tape, x, weights), last) for x in levels]
    return outputs


HEAD = Head(modules=modules, forward=forward, cost=cost, record=record)

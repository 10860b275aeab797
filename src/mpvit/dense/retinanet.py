"""RetinaNet: classes and boxes of 9 anchors at every position of five levels (Lin et al., ICCV 2017, arXiv:1708.02002).

The pyramid has the levels P3 to P5 at strides 8, 16 and 32. A 3x3 convolution of stride 2 makes P6 from the backbone's last
feature map, another one makes P7 from P6 after a ReLU. Each of two subnets runs on all levels: four 3x3 convolutions with
ReLU, then one convolution to 9·K class logits or 9·4 box offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mpvit.dense import Head, Layers, Tape, Task, TensorSpec, fpn
from mpvit.dense.layers import convs_relu, record_convs_relu, record_on_levels

if TYPE_CHECKING:
    from torch import Tensor, nn


ANCHORS = 9
"""Number of anchors at each position."""

SUBNET_CONVS = 4
"""Number of convolutions of a subnet before the last one."""

FIRST_LEVEL = 1
"""Index of the finest feature map of the backbone that the head takes, at stride 8."""


class Boxes(NamedTuple):
    """Outputs for the levels P3 to P7: class logits (B, 9·K, H, W) and box offsets (B, 9·4, H, W)."""

    classes: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for feature maps with these ``channels``."""
    from torch import nn

    coarse = {
        "p6": nn.Conv2d(channels[-1], fpn.CHANNELS, 3, stride=2, padding=1),
        "p7": nn.Conv2d(fpn.CHANNELS, fpn.CHANNELS, 3, stride=2, padding=1),
    }
    return {
        "fpn": nn.ModuleDict(fpn.modules(channels[FIRST_LEVEL:])),
        "coarse": nn.ModuleDict(coarse),
        "class_subnet": _subnet(ANCHORS * task.classes),
        "box_subnet": _subnet(ANCHORS * 4),
    }


def _subnet(out: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(*convs_relu(fpn.CHANNELS, SUBNET_CONVS), nn.Conv2d(fpn.CHANNELS, out, 3, padding=1))


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Boxes:
    """Map each (B, C, H, W) -> ``Boxes``."""
    from torch.nn.functional import relu

    maps = fpn.forward(layers["fpn"], pyramid[FIRST_LEVEL:])
    p6 = layers["coarse"]["p6"](pyramid[-1])
    levels = [*maps, p6, layers["coarse"]["p7"](relu(p6))]
    return Boxes(tuple(map(layers["class_subnet"], levels)), tuple(map(layers["box_subnet"], levels)))


def _record_subnet(tape: Tape, x: TensorSpec, out: int) -> TensorSpec:
    x = record_convs_relu(tape, x, SUBNET_CONVS)
    return tape.conv(str(2 * SUBNET_CONVS), x, out, 3, bias=True)


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` and return its outputs."""
    with tape.group("fpn"):
        maps = fpn.record(tape, pyramid[FIRST_LEVEL:])
    with tape.group("coarse"):
        p6 = tape.conv("p6", pyramid[-1], fpn.CHANNELS, 3, stride=2, bias=True)
        p7 = tape.conv("p7", tape.activation("relu", "relu", p6, function=True), fpn.CHANNELS, 3, stride=2, bias=True)
    levels = [*maps, p6, p7]
    classes = record_on_levels(tape, "class_subnet", "Sequential", _record_subnet, levels, ANCHORS * task.classes)
    return classes + record_on_levels(tape, "box_subnet", "Sequential", _record_subnet, levels, ANCHORS * 4)


HEAD = Head(modules=modules, forward=forward, record=record)

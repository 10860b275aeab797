"""Semantic FPN: the sum of a pyramid's levels at stride 4 (Kirillov et al., CVPR 2019, arXiv:1901.02446, figure 3).

The pyramid has 256 channels. A step is a 3x3 convolution to 128 channels without bias, a group norm of 32 groups, a ReLU, and
bilinear upsampling to the next finer grid. The levels at strides 32, 16 and 8 take three, two and one steps; the level at
stride 4 takes one step without upsampling. A 1x1 convolution with bias gives the classes from the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from mpvit.dense import Head, Layers, Tape, Task, TensorSpec, fpn
from mpvit.dense.layers import conv_norm_relu, record_conv_norm_relu, to_size

if TYPE_CHECKING:
    from torch import Tensor, nn


CHANNELS = 128
"""Channels of the steps and of the sum."""


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for feature maps with these ``channels``."""
    from torch import nn

    return {
        "fpn": nn.ModuleDict(fpn.modules(channels)),
        "branches": nn.ModuleList(nn.ModuleList(_steps(level)) for level in range(len(channels))),
        "classifier": nn.Conv2d(CHANNELS, task.classes, 1),
    }


def _steps(level: int) -> list[nn.Sequential]:
    """Return the convolutions of the branch of a level; level 0 is the finest and has one, like level 1."""
    return [conv_norm_relu(CHANNELS if step else fpn.CHANNELS, CHANNELS, 3, "group_norm") for step in range(max(level, 1))]


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Map each (B, C, H, W) -> logits at the image's size, (B, K, height, width)."""
    maps = fpn.forward(layers["fpn"], pyramid)
    for level, branch in enumerate(layers["branches"]):
        for step, layer in enumerate(branch):
            maps[level] = layer(maps[level])
            if level:
                maps[level] = to_size(maps[level], pyramid[level - step - 1].shape[2:])  # in the end (B, 128, H, W) at stride 4
    return to_size(layers["classifier"](reduce(lambda x, y: x + y, maps)), size)


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` and return its output."""
    with tape.group("fpn"):
        maps = fpn.record(tape, pyramid)
    with tape.group("branches"):
        for level, x in enumerate(maps):
            with tape.group(str(level)):
                maps[level] = _record_branch(tape, x, level, [x.shape[2:] for x in pyramid])
    logits = tape.conv("classifier", tape.total("sum", maps), task.classes, 1, bias=True)
    return [tape.upsample("upsample", "bilinear", logits, size)]


def _record_branch(tape: Tape, x: TensorSpec, level: int, grids: Sequence[Sequence[int]]) -> TensorSpec:
    for step in range(max(level, 1)):
        x = tape.call(str(step), "Sequential", record_conv_norm_relu, x, CHANNELS, 3, "group_norm")
        if level:
            x = tape.upsample(f"upsample {step}", "bilinear", x, grids[level - step - 1])
    return x


HEAD = Head(modules=modules, forward=forward, record=record)

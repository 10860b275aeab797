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
from mpvit.dense.layers import conv_norm_relu, record_conv_norm_relu, to_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations.tape import Tape
    from mpvit.operations.tensor_spec import TensorSpec

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


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` and return its output."""
    with tape.group("fpn"):
        maps = fpn.record(tape, pyramid)
    with tape.group("branches"):
        for level, x in enumerate(maps):
            with tape.group(str(level)):
                maps[level] = _record_branch(tape, x, level, [x.shape[2:] for x in pyramid])
    with tape.group("sum"):
        names = map(str, range(len(maps)))
        summed = reduce(lambda x, y: tape.elementwise(next(names), "add", x, y), maps)
    logits = tape.conv("classifier", summed, task.classes, 1, bias=True)
    return [tape.upsample("upsample", "bilinear", logits, size)]


def _record_branch(tape: Tape, x: TensorSpec, level: int, grids: Sequence[Sequence[int]]) -> TensorSpec:
    for step in range(max(level, 1)):
        x = tape.call(str(step), "Sequential", record_conv_norm_relu, x, WIDTH, 3, "group_norm")
        if level:
            x = tape.upsample(f"upsample {step}", "bilinear", x, grids[level - step - 1])
    return x


HEAD = Head(modules=modules, forward=forward, record=record)

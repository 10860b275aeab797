"""Feature pyramid network: every level gets what the coarser ones have seen (Lin et al., CVPR 2017, arXiv:1612.03144).

A 1x1 lateral and a 3x3 output convolution a level, both with bias; top down, each map is upsampled to the nearest
positions of the next finer grid and added.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mpvit.operations import Block, Node, Shape, conv, elementwise, upsample
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.dense import Layers
    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

WIDTH = 256
"""Channels of every level."""


def modules(channels: Sequence[int]) -> dict[str, nn.Module]:
    """Return the convolutions for maps of ``channels``, finest first."""
    from torch import nn

    return {
        "laterals": nn.ModuleList(nn.Conv2d(each, WIDTH, 1) for each in channels),
        "outputs": nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in channels),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor]) -> list[Tensor]:
    """Map each (B, C, H, W), finest first, -> (B, WIDTH, H, W)."""
    from torch.nn.functional import interpolate

    maps = [lateral(x) for lateral, x in zip(layers["laterals"], pyramid, strict=True)]
    for level in range(len(maps) - 2, -1, -1):
        maps[level] = maps[level] + interpolate(maps[level + 1], size=maps[level].shape[2:])
    return [output(x) for output, x in zip(layers["outputs"], maps, strict=True)]


def cost(shapes: Sequence[Shape]) -> Block:
    """Return the operations of ``forward`` on maps of these ``shapes``."""
    grids = widened(shapes)
    laterals: dict[str, Node] = {str(i): conv(shape, WIDTH, 1, bias=True) for i, shape in enumerate(shapes)}
    top_down: dict[str, Node] = {
        str(level): Block({"upsample": upsample("nearest", coarse, fine[2:]), "add": elementwise("add", fine, fine)})
        for level, (fine, coarse) in reversed([*enumerate(pairwise(grids))])
    }
    outputs: dict[str, Node] = {str(i): conv(grid, WIDTH, 3, bias=True) for i, grid in enumerate(grids)}
    return Block({"laterals": Block(laterals), "top_down": Block(top_down), "outputs": Block(outputs)})


def record(tape: Tape, pyramid: Sequence[Strided]) -> list[Strided]:
    """Return the result of ``forward``, recorded on ``tape``."""
    maps = [tape.conv(x, parameter(WIDTH, x.shape[1], 1, 1)) for x in pyramid]
    for level in range(len(maps) - 2, -1, -1):
        maps[level] = tape.add(maps[level], tape.upsample(maps[level + 1], maps[level].shape[2:]))
    return [tape.conv(x, parameter(WIDTH, WIDTH, 3, 3)) for x in maps]


def widened(shapes: Sequence[Shape]) -> list[Shape]:
    """Return the shapes of the pyramid's maps, of those of the backbone."""
    return [(batch, WIDTH, height, width) for batch, _, height, width in shapes]

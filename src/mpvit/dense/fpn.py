"""Feature pyramid network (Lin et al., CVPR 2017, arXiv:1612.03144).

Each level has a 1x1 lateral and a 3x3 output convolution, both with bias. From the coarsest level on, each feature map is
upsampled to the nearest positions of the next finer grid and added.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpvit.dense import Layers, Tape, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

CHANNELS = 256
"""Channels of every level."""


def modules(channels: Sequence[int]) -> dict[str, nn.Module]:
    """Return the convolutions for feature maps with these ``channels``, finest first."""
    from torch import nn

    return {
        "laterals": nn.ModuleList(nn.Conv2d(each, CHANNELS, 1) for each in channels),
        "outputs": nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in channels),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor]) -> list[Tensor]:
    """Map each (B, C, H, W), finest first, -> (B, CHANNELS, H, W)."""
    from torch.nn.functional import interpolate

    maps = [lateral(x) for lateral, x in zip(layers["laterals"], pyramid, strict=True)]
    for level in range(len(maps) - 2, -1, -1):
        maps[level] = maps[level] + interpolate(maps[level + 1], size=maps[level].shape[2:])
    return [output(x) for output, x in zip(layers["outputs"], maps, strict=True)]


def record(tape: Tape, pyramid: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Record ``forward`` and return the feature maps."""
    with tape.group("laterals"):
        maps = [tape.conv(str(i), x, CHANNELS, 1, bias=True) for i, x in enumerate(pyramid)]
    record_top_down(tape, maps, "nearest")
    with tape.group("outputs"):
        return [tape.conv(str(i), x, CHANNELS, 3, bias=True) for i, x in enumerate(maps)]


def record_top_down(tape: Tape, maps: list[TensorSpec], mode: str) -> None:
    """Record the addition of each upsampled feature map to the next finer one, coarsest first, and change ``maps`` in place."""
    with tape.group("top_down"):
        for level in reversed(range(len(maps) - 1)):
            with tape.group(str(level)):
                upsampled = tape.upsample("upsample", mode, maps[level + 1], maps[level].shape[2:])
                maps[level] = tape.elementwise("add", "add", maps[level], upsampled)

"""Layers of several heads: convolutions with ReLU, modules that all levels share, and bilinear upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpvit.dense import Tape, TensorSpec
from mpvit.operations.recording import Body

if TYPE_CHECKING:
    from torch import Tensor, nn

GROUPS = 32
"""Groups of a group norm (Wu & He, ECCV 2018)."""


def conv_norm_relu(channels: int, out: int, kernel: int, kind: str = "batch_norm") -> nn.Sequential:
    """Return a convolution with "same" padding and without bias, a norm (``batch_norm`` or ``group_norm``) and a ReLU."""
    from torch import nn

    normed = nn.BatchNorm2d(out) if kind == "batch_norm" else nn.GroupNorm(GROUPS, out)
    return nn.Sequential(nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=False), normed, nn.ReLU())


def record_conv_norm_relu(tape: Tape, x: TensorSpec, out: int, kernel: int, kind: str = "batch_norm") -> TensorSpec:
    """Record ``conv_norm_relu``: (B, C, H, W) -> (B, out, H, W)."""
    x = tape.norm("1", kind, tape.conv("0", x, out, kernel), groups=GROUPS)
    return tape.activation("2", "relu", x)


def convs_relu(channels: int, count: int) -> list[nn.Module]:
    """Return ``count`` 3x3 convolutions from ``channels`` to ``channels`` with bias, each followed by a ReLU."""
    from torch import nn

    pairs = ((nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()) for _ in range(count))
    return [module for pair in pairs for module in pair]


def record_convs_relu(tape: Tape, x: TensorSpec, count: int) -> TensorSpec:
    """Record ``convs_relu``; the names are the indices of its modules in an ``nn.Sequential``."""
    for index in range(0, 2 * count, 2):
        x = tape.conv(str(index), x, x.shape[1], 3, bias=True)
        x = tape.activation(str(index + 1), "relu", x)
    return x


def record_on_levels(tape: Tape, name: str, module: str, body: Body, maps: Sequence[TensorSpec], *arguments: int) -> list[Any]:
    """Record a module of the head that runs on the feature map of each level with the same weights."""
    shared = tape.register(name, module, body, maps[0], *arguments)
    with tape.group(name), tape.group("levels"):
        return [tape.call_shared(str(level), shared, x, *arguments) for level, x in enumerate(maps)]


def to_size(x: Tensor, size: Sequence[int]) -> Tensor:
    """Map (B, C, H, W) -> (B, C, height, width) by bilinear interpolation; ``size`` is (height, width)."""
    from torch.nn.functional import interpolate

    return interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def join(maps: Sequence[Tensor]) -> Tensor:
    """Concatenate feature maps (B, C, H, W) along the channels, the coarser ones upsampled to the size of the first."""
    import torch

    return torch.cat([maps[0], *(to_size(x, maps[0].shape[2:]) for x in maps[1:])], dim=1)


def record_join(tape: Tape, maps: Sequence[TensorSpec]) -> TensorSpec:
    """Record ``join``."""
    with tape.group("join"):
        coarser = [tape.upsample(str(level), "bilinear", x, maps[0].shape[2:]) for level, x in enumerate(maps[1:], 1)]
        return tape.cat("cat", [maps[0], *coarser])

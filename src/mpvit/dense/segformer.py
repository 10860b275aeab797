"""SegFormer's head: only linear layers, on every level (Xie et al., NeurIPS 2021, arXiv:2105.15203, section 3.2).

One linear layer for each feature map gives all the same channels. The maps are upsampled to stride 4 and concatenated; a
linear layer fuses them, and another one gives the classes. As in equation 4, all have a bias, and there is no norm or
activation between them. They have 256 channels as in the paper's smaller networks (B0, B1); the larger ones have 768.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpvit.dense import Head, Layers, Tape, Task, TensorSpec
from mpvit.dense.layers import join, record_join, to_size

if TYPE_CHECKING:
    from torch import Tensor, nn


CHANNELS = 256
"""Output channels of each linear layer except the last."""


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for feature maps with these ``channels``."""
    from torch import nn

    return {
        "unify": nn.ModuleList(nn.Linear(each, CHANNELS) for each in channels),
        "fusion": nn.Linear(len(channels) * CHANNELS, CHANNELS),
        "classifier": nn.Linear(CHANNELS, task.classes),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Map each (B, C, H, W) -> logits at the image's size, (B, K, height, width)."""
    from einops import rearrange

    tokens = [rearrange(x, "b c h w -> b h w c").contiguous() for x in pyramid]
    unified = [layer(x) for layer, x in zip(layers["unify"], tokens, strict=True)]
    joined = join([rearrange(x, "b h w c -> b c h w") for x in unified])  # (B, 4·256, H, W) at stride 4
    logits = layers["classifier"](layers["fusion"](rearrange(joined, "b c h w -> b h w c").contiguous()))
    return to_size(rearrange(logits, "b h w k -> b k h w"), size)


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` and return its output."""
    tokens = [x.rearrange("b c h w -> b h w c").contiguous() for x in pyramid]
    with tape.group("unify"):
        unified = [tape.linear(str(i), x, CHANNELS).rearrange("b h w c -> b c h w") for i, x in enumerate(tokens)]
    joined = record_join(tape, unified)
    fused = tape.linear("fusion", joined.rearrange("b c h w -> b h w c").contiguous(), CHANNELS)
    logits = tape.linear("classifier", fused, task.classes)
    return [tape.upsample("upsample", "bilinear", logits.rearrange("b h w k -> b k h w"), size)]


HEAD = Head(modules=modules, forward=forward, record=record)

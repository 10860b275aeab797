"""SegFormer's head: linear layers alone, on every level (Xie et al., NeurIPS 2021, arXiv:2105.15203, section 3.2).

Its four steps: each map's channels to one width, upsampled to stride 4 and put side by side; one linear layer over the four;
one to the classes. All are plain linear layers with bias, as equation 4 has them, without norm or activation between. The
width is 256, which the paper gives its smaller networks (B0, B1); its larger ones have 768.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.dense import Head, Layers, Task
from mpvit.dense.layers import record_join, to_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations.tape import Tape
    from mpvit.operations.tensor_spec import TensorSpec

WIDTH = 256


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for maps of ``channels``."""
    from torch import nn

    return {
        "unify": nn.ModuleList(nn.Linear(each, WIDTH) for each in channels),
        "fusion": nn.Linear(len(channels) * WIDTH, WIDTH),
        "classifier": nn.Linear(WIDTH, task.classes),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Map each (B, C, H, W) -> logits at the image's size, (B, K, height, width)."""
    import torch
    from einops import rearrange

    tokens = [rearrange(x, "b c h w -> b h w c").contiguous() for x in pyramid]
    unified = [layer(x) for layer, x in zip(layers["unify"], tokens, strict=True)]
    first, *coarser = (rearrange(x, "b h w c -> b c h w") for x in unified)
    joined = torch.cat([first, *(to_size(x, first.shape[2:]) for x in coarser)], dim=1)  # (B, 4·256, H, W) at stride 4
    logits = layers["classifier"](layers["fusion"](rearrange(joined, "b c h w -> b h w c").contiguous()))
    return to_size(rearrange(logits, "b h w k -> b k h w"), size)


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` and return its output."""
    tokens = [x.rearrange("b c h w -> b h w c").contiguous() for x in pyramid]
    with tape.group("unify"):
        unified = [tape.linear(str(i), x, WIDTH).rearrange("b h w c -> b c h w") for i, x in enumerate(tokens)]
    joined = record_join(tape, unified)
    fused = tape.linear("fusion", joined.rearrange("b c h w -> b h w c").contiguous(), WIDTH)
    logits = tape.linear("classifier", fused, task.classes)
    return [tape.upsample("upsample", "bilinear", logits.rearrange("b h w k -> b k h w"), size)]


HEAD = Head(modules=modules, forward=forward, record=record)

"""SegFormer's head: linear layers alone, on every level (Xie et al., NeurIPS 2021, arXiv:2105.15203, section 3.2).

Its four steps: each map's channels to one width, upsampled to stride 4 and put side by side; one linear layer over the four;
one to the classes. All are plain linear layers with bias, as equation 4 has them, without norm or activation between. The
width is 256, which the paper gives its smaller networks (B0, B1); its larger ones have 768.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.dense import Head, Layers, Task
from mpvit.dense.layers import to_size, to_size_cost
from mpvit.operations import Block, Node, Shape, cat, linear
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

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


def cost(shapes: Sequence[Shape], task: Task, size: tuple[int, int]) -> Block:
    """Return the operations of ``forward``."""
    batch, _, *grid = shapes[0]
    maps: list[Shape] = [(each[0], WIDTH, *each[2:]) for each in shapes]
    unify: dict[str, Node] = {str(i): linear((*each[:1], *each[2:], each[1]), WIDTH) for i, each in enumerate(shapes)}
    upsampled = {str(level): to_size_cost(each, grid) for level, each in enumerate(maps[1:], 1)}
    joined = (batch, len(maps) * WIDTH, *grid)
    fusion = linear((batch, *grid, joined[1]), WIDTH)
    return Block(
        {
            "unify": Block(unify),
            "join": Block({**upsampled, "cat": cat(maps[:1] * len(maps), joined)}),
            "fusion": fusion,
            "classifier": linear(fusion.output_shape, task.classes),
            "upsample": to_size_cost((batch, task.classes, *grid), size),
        },
        module="DenseHead",
    )


def record(tape: Tape, pyramid: Sequence[Strided], task: Task, size: tuple[int, int]) -> list[Strided]:
    """Return the output of ``forward``, recorded on ``tape``."""
    tokens = [x.rearrange("b c h w -> b h w c").contiguous() for x in pyramid]
    unified = [tape.linear(x, parameter(WIDTH, x.shape[-1])).rearrange("b h w c -> b c h w") for x in tokens]
    grid = unified[0].shape[2:]
    joined = tape.cat([unified[0], *(tape.upsample(x, grid) for x in unified[1:])])
    fused = tape.linear(joined.rearrange("b c h w -> b h w c").contiguous(), parameter(WIDTH, joined.shape[1]))
    logits = tape.linear(fused, parameter(task.classes, WIDTH))
    return [tape.upsample(logits.rearrange("b h w k -> b k h w"), size)]


HEAD = Head(modules=modules, forward=forward, cost=cost, record=record)

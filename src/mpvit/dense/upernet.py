"""UperNet: pooled maps of the last stage, a pyramid, and all its levels together (Xiao et al., ECCV 2018, arXiv:1807.10221).

The last map is pooled to 1x1, 2x2, 3x3 and 6x6 positions (Zhao et al., CVPR 2017), each behind a 1x1 convolution upsampled
and put beside it; a 3x3 convolution makes one map of these. The finer maps get 1x1 laterals, sums top down and a 3x3
convolution each; all four, upsampled to stride 4, go through one 3x3 convolution to the classifier. Convolutions but the
last have no bias, a batch norm and a ReLU; what is upsampled is so bilinearly.

The auxiliary head on the map at stride 16 helps in training alone: in evaluation mode it is there and does not run.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mpvit.cost import output_shape
from mpvit.dense import Head, Layers, Task
from mpvit.dense.layers import conv_norm_relu, conv_norm_relu_cost, record_conv_norm_relu, sequential, to_size, to_size_cost
from mpvit.operations import Block, Node, Shape, adaptive_pool, cat, conv, elementwise, registered
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

WIDTH = 512
POOLED = (1, 2, 3, 6)
"""Positions of the pooled maps along each side."""

AUXILIARY_WIDTH = 256
AUXILIARY_LEVEL = 2
"""The map that the auxiliary head takes: at stride 16."""


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for maps of ``channels``."""
    from torch import nn

    *finer, last = channels
    pooling = {
        "branches": nn.ModuleList(conv_norm_relu(last, WIDTH, 1) for _ in POOLED),
        "fusion": conv_norm_relu(last + len(POOLED) * WIDTH, WIDTH, 3),
    }
    pyramid = {
        "laterals": nn.ModuleList(conv_norm_relu(each, WIDTH, 1) for each in finer),
        "outputs": nn.ModuleList(conv_norm_relu(WIDTH, WIDTH, 3) for _ in finer),
    }
    auxiliary = conv_norm_relu(channels[AUXILIARY_LEVEL], AUXILIARY_WIDTH, 3)
    return {
        "pyramid_pooling": nn.ModuleDict(pooling),
        "fpn": nn.ModuleDict(pyramid),
        "fusion": conv_norm_relu(len(channels) * WIDTH, WIDTH, 3),
        "classifier": nn.Conv2d(WIDTH, task.classes, 1),
        "auxiliary": nn.Sequential(auxiliary, nn.Conv2d(AUXILIARY_WIDTH, task.classes, 1)),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor | tuple[Tensor, Tensor]:
    """Map each (B, C, H, W) -> logits at the image's size, (B, K, height, width); in training the auxiliary ones too."""
    import torch

    pooled = _pool(layers["pyramid_pooling"], pyramid[-1])
    maps = [*(lateral(x) for lateral, x in zip(layers["fpn"]["laterals"], pyramid[:-1], strict=True)), pooled]
    for level in range(len(maps) - 2, -1, -1):
        maps[level] = maps[level] + to_size(maps[level + 1], maps[level].shape[2:])
    maps[:-1] = [output(x) for output, x in zip(layers["fpn"]["outputs"], maps[:-1], strict=True)]
    grid = maps[0].shape[2:]
    joined = torch.cat([maps[0], *(to_size(x, grid) for x in maps[1:])], dim=1)  # (B, 4·512, H, W) at stride 4
    logits = to_size(layers["classifier"](layers["fusion"](joined)), size)
    if not layers["auxiliary"].training:
        return logits
    return logits, to_size(layers["auxiliary"](pyramid[AUXILIARY_LEVEL]), size)


def _pool(layers: Layers, x: Tensor) -> Tensor:
    """Map (B, C, H, W) -> (B, 512, H, W)."""
    import torch
    from torch.nn.functional import adaptive_avg_pool2d

    pooled = [adaptive_avg_pool2d(x, side) for side in POOLED]
    seen = [branch(each) for branch, each in zip(layers["branches"], pooled, strict=True)]
    return layers["fusion"](torch.cat([x, *(to_size(each, x.shape[2:]) for each in seen)], dim=1))


def cost(shapes: Sequence[Shape], task: Task, size: tuple[int, int]) -> Block:
    """Return the operations of ``forward`` in evaluation mode."""
    maps: list[Shape] = [(batch, WIDTH, height, width) for batch, _, height, width in shapes]
    finest = maps[0]
    upsampled = {str(level): to_size_cost(each, finest[2:]) for level, each in enumerate(maps[1:], 1)}
    joined = (finest[0], len(maps) * WIDTH, *finest[2:])
    classifier = conv(finest, task.classes, 1, bias=True)
    auxiliary = conv_norm_relu_cost(shapes[AUXILIARY_LEVEL], AUXILIARY_WIDTH, 3)
    of_auxiliary = sequential([auxiliary, conv(output_shape(auxiliary), task.classes, 1, bias=True)])
    return Block(
        {
            "pyramid_pooling": _pool_cost(shapes[-1]),
            "fpn": _fpn_cost(shapes[:-1], maps),
            "join": Block({**upsampled, "cat": cat(maps[:1] * len(maps), joined)}),
            "fusion": conv_norm_relu_cost(joined, WIDTH, 3),
            "classifier": classifier,
            "upsample": to_size_cost(classifier.output_shape, size),
            "auxiliary": registered(of_auxiliary),
        },
        module="DenseHead",
    )


def _fpn_cost(shapes: Sequence[Shape], maps: Sequence[Shape]) -> Block:
    """Return the operations of the three finer levels, whose input is ``shapes``; ``maps`` are the four levels' own."""
    laterals: dict[str, Node] = {str(i): conv_norm_relu_cost(shape, WIDTH, 1) for i, shape in enumerate(shapes)}
    top_down: dict[str, Node] = {
        str(level): Block({"upsample": to_size_cost(coarse, fine[2:]), "add": elementwise("add", fine, fine)})
        for level, (fine, coarse) in reversed([*enumerate(pairwise(maps))])
    }
    outputs: dict[str, Node] = {str(i): conv_norm_relu_cost(each, WIDTH, 3) for i, each in enumerate(maps[:-1])}
    return Block({"laterals": Block(laterals), "top_down": Block(top_down), "outputs": Block(outputs)})


def _pool_cost(shape: Shape) -> Block:
    batch, channels, *grid = shape
    pooled = [adaptive_pool(shape, side) for side in POOLED]
    branches = [conv_norm_relu_cost(each.output_shape, WIDTH, 1) for each in pooled]
    resized = [to_size_cost(output_shape(branch), grid) for branch in branches]
    joined = (batch, channels + len(POOLED) * WIDTH, *grid)
    return Block(
        {
            "pooled": Block({str(i): each for i, each in enumerate(pooled)}),
            "branches": Block({str(i): each for i, each in enumerate(branches)}),
            "upsampled": Block({str(i): each for i, each in enumerate(resized)}),
            "cat": cat([shape, *(each.output_shape for each in resized)], joined),
            "fusion": conv_norm_relu_cost(joined, WIDTH, 3),
        }
    )


def record(tape: Tape, pyramid: Sequence[Strided], task: Task, size: tuple[int, int]) -> list[Strided]:
    """Return the outputs of ``forward`` in training, the auxiliary head's too, recorded on ``tape``."""
    pooled = _record_pool(tape, pyramid[-1])
    maps = [*(record_conv_norm_relu(tape, x, WIDTH, 1) for x in pyramid[:-1]), pooled]
    for level in range(len(maps) - 2, -1, -1):
        maps[level] = tape.add(maps[level], tape.upsample(maps[level + 1], maps[level].shape[2:]))
    maps[:-1] = [record_conv_norm_relu(tape, x, WIDTH, 3) for x in maps[:-1]]
    grid = maps[0].shape[2:]
    joined = tape.cat([maps[0], *(tape.upsample(x, grid) for x in maps[1:])])
    auxiliary = record_conv_norm_relu(tape, pyramid[AUXILIARY_LEVEL], AUXILIARY_WIDTH, 3)
    last = (record_conv_norm_relu(tape, joined, WIDTH, 3), auxiliary)
    return [tape.upsample(tape.conv(x, parameter(task.classes, x.shape[1], 1, 1)), size) for x in last]


def _record_pool(tape: Tape, x: Strided) -> Strided:
    seen = [record_conv_norm_relu(tape, tape.adaptive_pool(x, side), WIDTH, 1) for side in POOLED]
    return record_conv_norm_relu(tape, tape.cat([x, *(tape.upsample(each, x.shape[2:]) for each in seen)]), WIDTH, 3)


HEAD = Head(modules=modules, forward=forward, cost=cost, record=record)

"""UperNet: pooled features, a feature pyramid, and their fusion (Xiao et al., ECCV 2018, arXiv:1807.10221).

The backbone's last feature map is pooled to 1x1, 2x2, 3x3 and 6x6 positions (Zhao et al., CVPR 2017). Each pooled map passes a
1x1 convolution, is upsampled and concatenated with the last map; a 3x3 convolution fuses them. The finer maps have 1x1
laterals, top-down sums and a 3x3 convolution each. All four maps are upsampled to stride 4 and fused by a 3x3 convolution;
a 1x1 convolution gives the classes. Each convolution except the last has no bias, a batch norm and a ReLU. Upsampling is
bilinear.

The auxiliary head on the map at stride 16 runs only in training; in evaluation mode it has parameters but no calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpvit.dense import Head, Layers, Tape, Task, TensorSpec, fpn
from mpvit.dense.layers import conv_norm_relu, join, record_conv_norm_relu, record_join, to_size

if TYPE_CHECKING:
    from torch import Tensor, nn


CHANNELS = 512
"""Output channels of each convolution except the last."""

POOLED_SIDES = (1, 2, 3, 6)
"""Sides of the pooled maps, in positions."""

AUXILIARY_CHANNELS = 256
"""Output channels of the first convolution of the auxiliary head."""

AUXILIARY_LEVEL = 2
"""Index of the backbone's feature map that the auxiliary head takes, at stride 16."""


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for feature maps with these ``channels``."""
    from torch import nn

    *finer, last = channels
    pooling = {
        "branches": nn.ModuleList(conv_norm_relu(last, CHANNELS, 1) for _ in POOLED_SIDES),
        "fusion": conv_norm_relu(last + len(POOLED_SIDES) * CHANNELS, CHANNELS, 3),
    }
    pyramid = {
        "laterals": nn.ModuleList(conv_norm_relu(each, CHANNELS, 1) for each in finer),
        "outputs": nn.ModuleList(conv_norm_relu(CHANNELS, CHANNELS, 3) for _ in finer),
    }
    auxiliary = conv_norm_relu(channels[AUXILIARY_LEVEL], AUXILIARY_CHANNELS, 3)
    return {
        "pyramid_pooling": nn.ModuleDict(pooling),
        "fpn": nn.ModuleDict(pyramid),
        "fusion": conv_norm_relu(len(channels) * CHANNELS, CHANNELS, 3),
        "classifier": nn.Conv2d(CHANNELS, task.classes, 1),
        "auxiliary": nn.Sequential(auxiliary, nn.Conv2d(AUXILIARY_CHANNELS, task.classes, 1)),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int]) -> Tensor | tuple[Tensor, Tensor]:
    """Map each (B, C, H, W) -> logits at the image's size, (B, K, height, width); in training also the auxiliary ones."""
    pooled = _pool(layers["pyramid_pooling"], pyramid[-1])
    maps = [*(lateral(x) for lateral, x in zip(layers["fpn"]["laterals"], pyramid[:-1], strict=True)), pooled]
    for level in range(len(maps) - 2, -1, -1):
        maps[level] = maps[level] + to_size(maps[level + 1], maps[level].shape[2:])
    maps[:-1] = [output(x) for output, x in zip(layers["fpn"]["outputs"], maps[:-1], strict=True)]
    logits = to_size(layers["classifier"](layers["fusion"](join(maps))), size)  # from (B, 4·512, H, W) at stride 4
    if not layers["auxiliary"].training:
        return logits
    return logits, to_size(layers["auxiliary"](pyramid[AUXILIARY_LEVEL]), size)


def _pool(layers: Layers, x: Tensor) -> Tensor:
    """Map (B, C, H, W) -> (B, 512, H, W)."""
    from torch.nn.functional import adaptive_avg_pool2d

    pooled = [adaptive_avg_pool2d(x, side) for side in POOLED_SIDES]
    branches = [branch(each) for branch, each in zip(layers["branches"], pooled, strict=True)]
    return layers["fusion"](join([x, *branches]))


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` and return its outputs; in evaluation mode the auxiliary head is only registered."""
    with tape.group("pyramid_pooling"):
        pooled = _record_pool(tape, pyramid[-1])
    with tape.group("fpn"):
        with tape.group("laterals"):
            maps = [_conv_norm_relu(tape, str(i), x, CHANNELS, 1) for i, x in enumerate(pyramid[:-1])]
        maps.append(pooled)
        fpn.record_top_down(tape, maps, "bilinear")
        with tape.group("outputs"):
            maps[:-1] = [_conv_norm_relu(tape, str(i), x, CHANNELS, 3) for i, x in enumerate(maps[:-1])]
    fused = _conv_norm_relu(tape, "fusion", record_join(tape, maps), CHANNELS, 3)
    logits = tape.conv("classifier", fused, task.classes, 1, bias=True)
    outputs = [tape.upsample("upsample", "bilinear", logits, size)]
    if tape.training:
        auxiliary = tape.call("auxiliary", "Sequential", _record_auxiliary, pyramid[AUXILIARY_LEVEL], task.classes)
        return [*outputs, tape.upsample("auxiliary_upsample", "bilinear", auxiliary, size)]
    tape.register("auxiliary", "Sequential", _record_auxiliary, pyramid[AUXILIARY_LEVEL], task.classes)
    return outputs


def _conv_norm_relu(tape: Tape, name: str, x: TensorSpec, out: int, kernel: int) -> TensorSpec:
    return tape.call(name, "Sequential", record_conv_norm_relu, x, out, kernel)


def _record_auxiliary(tape: Tape, x: TensorSpec, classes: int) -> TensorSpec:
    return tape.conv("1", _conv_norm_relu(tape, "0", x, AUXILIARY_CHANNELS, 3), classes, 1, bias=True)


def _record_pool(tape: Tape, x: TensorSpec) -> TensorSpec:
    with tape.group("pooled"):
        pooled = [tape.adaptive_pool(str(i), x, side) for i, side in enumerate(POOLED_SIDES)]
    with tape.group("branches"):
        branches = [_conv_norm_relu(tape, str(i), each, CHANNELS, 1) for i, each in enumerate(pooled)]
    with tape.group("upsampled"):
        upsampled = [tape.upsample(str(i), "bilinear", each, x.shape[2:]) for i, each in enumerate(branches)]
    return _conv_norm_relu(tape, "fusion", tape.cat("cat", [x, *upsampled]), CHANNELS, 3)


HEAD = Head(modules=modules, forward=forward, record=record)

"""Mask R-CNN: proposals, then classes, boxes and masks of regions (He et al., ICCV 2017, arXiv:1703.06870).

A pyramid on strides 4 to 32; P6 is every second position of P5. The proposal network (Ren et al., NIPS 2015) is shared by
the five levels: a 3x3 convolution with ReLU, 1x1 convolutions to the objectness and the box offsets of 3 anchors. The box
head takes 7x7 features of each proposal, the mask head 14x14 of each detection. To sample these (RoIAlign), and to choose
the proposals, is left to whoever calls: neither multiplies a matrix.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

from mpvit.dense import Head, Layers, Task, fpn
from mpvit.dense.layers import convs_relu, convs_relu_cost, record_convs_relu, sequential, shared, weights_of_convs
from mpvit.operations import Block, Shape, activation, conv, linear, transposed_conv
from mpvit.operations.strided import new
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

ANCHORS = 3
HIDDEN = 1024
"""Channels of the box head's two linear layers."""

BOX_SIDE = 7
"""Positions of a proposal's features along each side."""

MASK_SIDE = 14
"""The same of a detection's; its mask has twice as many."""

MASK_DEPTH = 4
"""3x3 convolutions of the mask head."""


class Proposals(NamedTuple):
    """What the proposal network says of the levels P2 to P6; ``maps`` are theirs, (B, 256, H, W), to sample regions from.

    Objectness before the sigmoid (B, 3, H, W), box offsets (B, 3·4, H, W).
    """

    maps: tuple[Tensor, ...]
    objectness: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]


class Regions(NamedTuple):
    """The same, and what the heads say of N proposals, M detections.

    Scores before the softmax with the background's (N, K + 1), box offsets (N, 4·K), masks before the sigmoid
    (M, K, 28, 28).
    """

    maps: tuple[Tensor, ...]
    objectness: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]
    classes: Tensor
    boxes: Tensor
    masks: Tensor


def regions(images: int, task: Task) -> tuple[Shape, Shape]:
    """Return the shapes of the features of all proposals and of all detections: (N, 256, 7, 7) and (M, 256, 14, 14)."""
    return (
        (images * task.proposals, fpn.WIDTH, BOX_SIDE, BOX_SIDE),
        (images * task.detections, fpn.WIDTH, MASK_SIDE, MASK_SIDE),
    )


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for maps of ``channels``."""
    from torch import nn

    flat = fpn.WIDTH * BOX_SIDE * BOX_SIDE
    rpn = {
        "conv": nn.Sequential(*convs_relu(fpn.WIDTH, 1)),
        "objectness": nn.Conv2d(fpn.WIDTH, ANCHORS, 1),
        "offsets": nn.Conv2d(fpn.WIDTH, 4 * ANCHORS, 1),
    }
    box_head = {
        "hidden": nn.Sequential(nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()),
        "classes": nn.Linear(HIDDEN, task.classes + 1),
        "boxes": nn.Linear(HIDDEN, 4 * task.classes),
    }
    upsampled = [nn.ConvTranspose2d(fpn.WIDTH, fpn.WIDTH, 2, 2), nn.ReLU()]
    return {
        "fpn": nn.ModuleDict(fpn.modules(channels)),
        "rpn": nn.ModuleDict(rpn),
        "box_head": nn.ModuleDict(box_head),
        "mask_head": nn.Sequential(*convs_relu(fpn.WIDTH, MASK_DEPTH), *upsampled, nn.Conv2d(fpn.WIDTH, task.classes, 1)),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int], *features: Tensor) -> Proposals | Regions:
    """Map each (B, C, H, W) -> ``Proposals``; with the two ``features`` that ``regions`` describes, -> ``Regions``."""
    maps = fpn.forward(layers["fpn"], pyramid)
    maps.append(maps[-1][:, :, ::2, ::2])
    rpn = layers["rpn"]
    seen = [(rpn["objectness"](x), rpn["offsets"](x)) for x in map(rpn["conv"], maps)]
    objectness, offsets = zip(*seen, strict=True)
    proposals = Proposals(tuple(maps), objectness, offsets)
    if not features:
        return proposals
    of_proposals, of_detections = features
    box_head = layers["box_head"]
    hidden = box_head["hidden"](of_proposals.flatten(1))  # (N, 1024) of (N, 256·7·7)
    return Regions(*proposals, box_head["classes"](hidden), box_head["boxes"](hidden), layers["mask_head"](of_detections))


def cost(shapes: Sequence[Shape], task: Task, size: tuple[int, int]) -> Block:
    """Return the operations of ``forward`` with features of regions."""
    maps = fpn.widened(shapes)
    batch, width, *grid = maps[-1]
    maps.append((batch, width, *((length + 1) // 2 for length in grid)))
    of_proposals, of_detections = regions(batch, task)
    return Block(
        {
            "fpn": fpn.cost(shapes),
            "rpn": shared("rpn", _rpn_cost, maps),
            "box_head": _box_head_cost(of_proposals, task.classes),
            "mask_head": _mask_head_cost(of_detections, task.classes),
        },
        scope=True,
        module="DenseHead",
    )


def _rpn_cost(shape: Shape) -> Block:
    return Block(
        {
            "conv": sequential(convs_relu_cost(shape, 1)),
            "objectness": conv(shape, ANCHORS, 1, bias=True),
            "offsets": conv(shape, 4 * ANCHORS, 1, bias=True),
        }
    )


def _box_head_cost(shape: Shape, classes: int) -> Block:
    first = linear((shape[0], shape[1] * shape[2] * shape[3]), HIDDEN)
    hidden = first.output_shape
    relu = activation("relu", hidden)
    return Block(
        {
            "hidden": sequential([first, relu, linear(hidden, HIDDEN), relu]),
            "classes": linear(hidden, classes + 1),
            "boxes": linear(hidden, 4 * classes),
        }
    )


def _mask_head_cost(shape: Shape, classes: int) -> Block:
    upsampled = transposed_conv(shape, fpn.WIDTH, 2)
    last = conv(upsampled.output_shape, classes, 1, bias=True)
    return sequential([*convs_relu_cost(shape, MASK_DEPTH), upsampled, activation("relu", upsampled.output_shape), last])


def record(tape: Tape, pyramid: Sequence[Strided], task: Task, size: tuple[int, int]) -> list[Strided]:
    """Return the outputs of ``forward`` with features of regions, recorded on ``tape``."""
    maps = fpn.record(tape, pyramid)
    batch, width, height, breadth = maps[-1].shape
    maps.append(maps[-1].narrow((batch, width, (height + 1) // 2, (breadth + 1) // 2)))
    weights = weights_of_convs(fpn.WIDTH, 1)
    predictors = [parameter(out, fpn.WIDTH, 1, 1) for out in (ANCHORS, 4 * ANCHORS)]
    outputs = [*maps]
    for x in maps:
        seen = record_convs_relu(tape, x, weights)
        outputs += [tape.conv(seen, predictor) for predictor in predictors]
    of_proposals, of_detections = (new(shape) for shape in regions(batch, task))  # sampled from the maps: they take a gradient
    outputs += _record_box_head(tape, of_proposals, task.classes)
    upsampled = record_convs_relu(tape, of_detections, weights_of_convs(fpn.WIDTH, MASK_DEPTH))
    upsampled = tape.relu(tape.transposed_conv(upsampled, parameter(fpn.WIDTH, fpn.WIDTH, 2, 2)))
    return [*outputs, tape.conv(upsampled, parameter(task.classes, fpn.WIDTH, 1, 1))]


def _record_box_head(tape: Tape, x: Strided, classes: int) -> list[Strided]:
    hidden = x.reshape((x.shape[0], prod(x.shape[1:])))
    for _ in range(2):
        hidden = tape.relu(tape.linear(hidden, parameter(HIDDEN, hidden.shape[1])))
    return [tape.linear(hidden, parameter(out, HIDDEN)) for out in (classes + 1, 4 * classes)]


HEAD = Head(modules=modules, forward=forward, cost=cost, record=record, regions=regions)

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
from mpvit.dense.layers import convs_relu, record_convs_relu, record_on_levels
from mpvit.operations.tensor_spec import new

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.operations import Shape
    from mpvit.operations.tape import Tape
    from mpvit.operations.tensor_spec import TensorSpec

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


def _rpn(tape: Tape, x: TensorSpec) -> tuple[TensorSpec, TensorSpec]:
    x = tape.call("conv", "Sequential", record_convs_relu, x, 1)
    return tape.conv("objectness", x, ANCHORS, 1, bias=True), tape.conv("offsets", x, 4 * ANCHORS, 1, bias=True)


def _hidden(tape: Tape, x: TensorSpec) -> TensorSpec:
    for place in (0, 2):
        x = tape.activation(str(place + 1), "relu", tape.linear(str(place), x, HIDDEN))
    return x


def _mask_head(tape: Tape, x: TensorSpec, classes: int) -> TensorSpec:
    x = record_convs_relu(tape, x, MASK_DEPTH)
    x = tape.activation(str(2 * MASK_DEPTH + 1), "relu", tape.transposed_conv(str(2 * MASK_DEPTH), x, fpn.WIDTH, 2))
    return tape.conv(str(2 * MASK_DEPTH + 2), x, classes, 1, bias=True)


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` with features of regions and return its outputs."""
    with tape.group("fpn"):
        maps = fpn.record(tape, pyramid)
    batch, width, *grid = maps[-1].shape
    maps.append(maps[-1].narrow((batch, width, *((length + 1) // 2 for length in grid))))
    predictions = record_on_levels(tape, "rpn", "", _rpn, maps)
    of_proposals, of_detections = (new(shape) for shape in regions(batch, task))  # they get a gradient: sampled from the maps
    with tape.group("box_head"):
        flat = of_proposals.reshape((of_proposals.shape[0], prod(of_proposals.shape[1:])))
        hidden = tape.call("hidden", "Sequential", _hidden, flat)
        boxes = [tape.linear(name, hidden, out) for name, out in (("classes", task.classes + 1), ("boxes", 4 * task.classes))]
    masks = tape.call("mask_head", "Sequential", _mask_head, of_detections, task.classes)
    return [*maps, *(each for pair in predictions for each in pair), *boxes, masks]


HEAD = Head(modules=modules, forward=forward, record=record, regions=regions)

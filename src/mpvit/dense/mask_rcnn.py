"""Mask R-CNN: proposals, then classes, boxes and masks of regions (He et al., ICCV 2017, arXiv:1703.06870).

The pyramid has the levels P2 to P5 at strides 4 to 32, and P6, every second position of P5. One proposal network (Ren et al.,
NIPS 2015) runs on all five levels: a 3x3 convolution with ReLU, and 1x1 convolutions to the objectness and the box offsets of
3 anchors. The box head takes 7x7 features of each proposal, the mask head 14x14 features of each detection. The caller
samples these features (RoIAlign) and chooses the proposals; neither step multiplies matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from mpvit.dense import Head, Layers, Tape, Task, TensorSpec, fpn
from mpvit.dense.layers import convs_relu, record_convs_relu, record_on_levels
from mpvit.operations import Shape
from mpvit.operations.tensor_spec import new

if TYPE_CHECKING:
    from torch import Tensor, nn

ANCHORS = 3
"""Number of anchors at each position."""

BOX_HEAD_CHANNELS = 1024
"""Output channels of the two linear layers of the box head."""

BOX_SIDE = 7
"""Side of the feature map of a proposal, in positions."""

MASK_SIDE = 14
"""Side of the feature map of a detection, in positions; its mask has twice this side."""

MASK_CONVS = 4
"""Number of 3x3 convolutions in the mask head."""


class Proposals(NamedTuple):
    """Outputs of the proposal network for the levels P2 to P6.

    Attributes:
        maps: feature maps from which the features of regions are sampled, (B, 256, H, W).
        objectness: logits of the anchors, (B, 3, H, W).
        offsets: box offsets of the anchors, (B, 3·4, H, W).
    """

    maps: tuple[Tensor, ...]
    objectness: tuple[Tensor, ...]
    offsets: tuple[Tensor, ...]


class Regions(NamedTuple):
    """Outputs of the proposal network, and those of the box and mask head for N proposals and M detections.

    Attributes:
        maps, objectness, offsets: as in ``Proposals``.
        classes: logits of the classes and the background, (N, K + 1).
        boxes: box offsets for each class, (N, 4·K).
        masks: logits of the mask for each class, (M, K, 28, 28).
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
        (images * task.proposals, fpn.CHANNELS, BOX_SIDE, BOX_SIDE),
        (images * task.detections, fpn.CHANNELS, MASK_SIDE, MASK_SIDE),
    )


def modules(channels: Sequence[int], task: Task) -> dict[str, nn.Module]:
    """Return the modules for feature maps with these ``channels``."""
    from torch import nn

    flat, hidden = fpn.CHANNELS * BOX_SIDE * BOX_SIDE, BOX_HEAD_CHANNELS
    rpn = {
        "conv": nn.Sequential(*convs_relu(fpn.CHANNELS, 1)),
        "objectness": nn.Conv2d(fpn.CHANNELS, ANCHORS, 1),
        "offsets": nn.Conv2d(fpn.CHANNELS, 4 * ANCHORS, 1),
    }
    box_head = {
        "hidden": nn.Sequential(nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()),
        "classes": nn.Linear(hidden, task.classes + 1),
        "boxes": nn.Linear(hidden, 4 * task.classes),
    }
    upsampled = [nn.ConvTranspose2d(fpn.CHANNELS, fpn.CHANNELS, 2, 2), nn.ReLU()]
    return {
        "fpn": nn.ModuleDict(fpn.modules(channels)),
        "rpn": nn.ModuleDict(rpn),
        "box_head": nn.ModuleDict(box_head),
        "mask_head": nn.Sequential(*convs_relu(fpn.CHANNELS, MASK_CONVS), *upsampled, nn.Conv2d(fpn.CHANNELS, task.classes, 1)),
    }


def forward(layers: Layers, pyramid: Sequence[Tensor], size: tuple[int, int], *features: Tensor) -> Proposals | Regions:
    """Map each (B, C, H, W) -> ``Proposals``, or with the two ``features`` that ``regions`` describes -> ``Regions``."""
    maps = fpn.forward(layers["fpn"], pyramid)
    maps.append(maps[-1][:, :, ::2, ::2])
    rpn = layers["rpn"]
    predictions = [(rpn["objectness"](x), rpn["offsets"](x)) for x in map(rpn["conv"], maps)]
    objectness, offsets = zip(*predictions, strict=True)
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
    for index in (0, 2):
        x = tape.activation(str(index + 1), "relu", tape.linear(str(index), x, BOX_HEAD_CHANNELS))
    return x


def _mask_head(tape: Tape, x: TensorSpec, classes: int) -> TensorSpec:
    x = record_convs_relu(tape, x, MASK_CONVS)
    x = tape.activation(str(2 * MASK_CONVS + 1), "relu", tape.transposed_conv(str(2 * MASK_CONVS), x, fpn.CHANNELS, 2))
    return tape.conv(str(2 * MASK_CONVS + 2), x, classes, 1, bias=True)


def record(tape: Tape, pyramid: Sequence[TensorSpec], task: Task, size: tuple[int, int]) -> list[TensorSpec]:
    """Record ``forward`` with features of regions and return its outputs. The features need a gradient, as if sampled."""
    with tape.group("fpn"):
        maps = fpn.record(tape, pyramid)
    batch, width, *grid = maps[-1].shape
    maps.append(maps[-1].narrow((batch, width, *((length + 1) // 2 for length in grid))))
    predictions = record_on_levels(tape, "rpn", "", _rpn, maps)
    of_proposals, of_detections = (new(shape) for shape in regions(batch, task))
    with tape.group("box_head"):
        flat = of_proposals.reshape((of_proposals.shape[0], prod(of_proposals.shape[1:])))
        hidden = tape.call("hidden", "Sequential", _hidden, flat)
        boxes = [tape.linear(name, hidden, out) for name, out in (("classes", task.classes + 1), ("boxes", 4 * task.classes))]
    masks = tape.call("mask_head", "Sequential", _mask_head, of_detections, task.classes)
    return [*maps, *(each for pair in predictions for each in pair), *boxes, masks]


HEAD = Head(modules=modules, forward=forward, record=record, regions=regions)

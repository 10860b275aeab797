"""Detectors and segmenters on the network. Each file holds one head: its modules, its forward pass and the record of it.

A head maps the backbone's feature pyramid, at strides 4, 8, 16 and 32, to raw outputs: it selects no boxes and pastes no
masks. A new head is one file with a ``HEAD`` and one line in ``TASKS``.
Axes: B images, C channels, H x W the grid of a feature map, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mpvit.architecture.closed_form import parts, record_backbone
from mpvit.architecture.config import MAX_COUNT, ModelConfig
from mpvit.errors import UsageError, unknown_name
from mpvit.imports import resolve
from mpvit.operations import Block, Node, Shape
from mpvit.operations.tape import Tape
from mpvit.operations.tensor_spec import TensorSpec

if TYPE_CHECKING:
    from torch import nn

    from mpvit.dense.torch_network import DenseNetwork

__all__ = ["SEGMENTERS", "TASKS", "Head", "Layers", "Tape", "Task", "TensorSpec", "build", "cut", "get_segmenter", "get_tasks"]
__all__ += ["input_shapes", "label", "network", "record_network", "require_levels"]

LEVELS = 4
"""Number of feature maps that every head takes."""

Layers = Mapping[str, Any]
"""Torch modules of a head by name."""


@dataclass(frozen=True, slots=True)
class Task:
    """A detector or segmenter: a head with its numbers of classes and regions.

    Attributes:
        name: name of the task on the command line and in tables.
        head: "module:object" of the ``Head``.
        size: (height, width) of the images, in pixels.
        classes: number of classes K, without background.
        proposals: number of boxes per image that the box head takes; 0 without a box head.
        detections: number of boxes per image that the mask head takes; 0 without a mask head.
    """

    name: str
    head: str
    size: tuple[int, int]
    classes: int
    proposals: int = 0
    detections: int = 0

    def as_row(self) -> dict[str, Any]:
        """Return the name and the numbers of classes and regions as columns of a row."""
        regions = {"proposals": self.proposals, "detections": self.detections} if self.proposals else {}
        return {"task": self.name, "classes": self.classes, **regions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The layers after the backbone.

    Attributes:
        modules: (channels of each feature map, task) -> torch modules by name.
        forward: (modules, pyramid, (height, width) of the image, *region features) -> raw outputs.
        record: record of the operations of ``forward``: (tape, pyramid, task, (height, width) of the image) -> outputs. The
            blocks have the names of the modules.
        regions: (number of images, task) -> shapes of the region features.
    """

    modules: Callable[[Sequence[int], Task], dict[str, nn.Module]]
    forward: Callable[..., Any]
    record: Callable[[Tape, Sequence[TensorSpec], Task, tuple[int, int]], list[TensorSpec]]
    regions: Callable[[int, Task], tuple[Shape, ...]] = lambda _images, _task: ()


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("retinanet", "mpvit.dense.retinanet:HEAD", (800, 1280), 80),
        Task("mask-rcnn", "mpvit.dense.mask_rcnn:HEAD", (800, 1280), 80, proposals=1000, detections=100),
        Task("upernet", "mpvit.dense.upernet:HEAD", (512, 2048), 150),
        Task("segformer", "mpvit.dense.segformer:HEAD", (512, 512), 150),
        Task("semantic-fpn", "mpvit.dense.semantic_fpn:HEAD", (512, 512), 150),
    )
}
"""The tasks by name, with the sizes and classes of the published results: 80 classes of COCO, 150 of ADE20K."""


SEGMENTERS = ("semantic-fpn", "segformer", "upernet")
"""Names of the tasks whose output is the logits of each pixel, which ``mpvit train`` trains; the cheapest training first."""


def get_segmenter(name: str, classes: int) -> Task:
    """Return the segmenter of this name with this number of classes; raise ``UsageError`` for any other name."""
    if name not in SEGMENTERS:
        raise unknown_name("task of training", name, SEGMENTERS)
    return replace(TASKS[name], classes=classes)


def get_tasks(names: Sequence[str], **numbers: int | None) -> list[Task]:
    """Return the tasks of these names, with other numbers of classes, proposals or detections; None keeps the task's own.

    A number applies to those of the tasks that have it. Raises ``UsageError`` for an unknown name, a number below 1, or a
    number that none of the tasks has.
    """
    for name in names:
        if name not in TASKS:
            raise unknown_name("task", name, TASKS)
    tasks = [TASKS[name] for name in names]
    given: dict[str, Any] = {field: value for field, value in numbers.items() if value is not None}
    for field, value in given.items():
        if not 1 <= value <= MAX_COUNT:
            raise UsageError(f"{field} = {value}: must be a whole number of at least 1 and at most {MAX_COUNT}")
        if not any(getattr(task, field) for task in tasks):
            having = ", ".join(task.name for task in TASKS.values() if getattr(task, field))
            raise UsageError(f"{field} = {value}: {', '.join(names)} has no {field}", hint=f"tasks that have {field}: {having}")
    return [replace(task, **{field: value for field, value in given.items() if getattr(task, field)}) for task in tasks]


def label(model: str, task: Task | None) -> str:
    """Return the label of a network: its name, together with the name of the task if there is one."""
    return model if task is None else f"{task.name} on {model}"


def network(config: ModelConfig, task: Task, batch: int, height: int, width: int) -> Block:
    """Return the operations of one forward pass over (batch, in_channels, height, width) in evaluation mode.

    The backbone has no classifier. Raises ``UsageError`` for a length below 1 or a backbone without four stages.
    """
    tape = Tape()
    record_network(tape, config, task, batch, height, width)
    return tape.tree("DenseNetwork")


def record_network(tape: Tape, config: ModelConfig, task: Task, batch: int, height: int, width: int) -> list[TensorSpec]:
    """Record the forward pass and return its outputs; errors as ``network``."""
    require_levels(config, task)
    with tape.group("backbone"):
        pyramid = record_backbone(tape, config, batch, height, width)
    head: Head = resolve(task.head)
    return tape.call("head", "DenseHead", head.record, tuple(pyramid), task, (height, width))


def input_shapes(config: ModelConfig, task: Task | None, batch: int, height: int, width: int) -> tuple[Shape, ...]:
    """Return the shapes of the inputs: images, then the region features that the head of the task takes."""
    images = (batch, config.in_channels, height, width)
    if task is None:
        return (images,)
    head: Head = resolve(task.head)
    return (images, *head.regions(batch, task))


def build(config: ModelConfig, task: Task) -> DenseNetwork:
    """Return the freshly initialised torch network; raise ``UsageError`` for a backbone without four stages."""
    from mpvit.dense.torch_network import DenseNetwork

    require_levels(config, task)
    return DenseNetwork(config, task)


def cut(tree: Block, by: str) -> dict[str, Node]:
    """Return named parts of a network's tree that sum to it: by ``part``, ``stage`` or ``path``.

    ``part`` separates the backbone and each part of the head; the others also cut the backbone (``closed_form.parts``).
    """
    body = tree.block("backbone")
    first: dict[str, Node] = {"backbone": body} if by == "part" else parts(body, by)
    return first | {name.replace("_", " "): child for name, child in tree.block("head").children.items()}


def require_levels(config: ModelConfig, task: Task) -> None:
    """Raise ``UsageError`` for a backbone without the four feature maps that heads take."""
    if len(config.stages) != LEVELS:
        raise UsageError(
            f"{task.name} on a network of {len(config.stages)} stages: the network must have {LEVELS}",
            hint=f"the head takes feature maps at strides {', '.join(str(config.reduction(i)) for i in range(LEVELS))}",
        )

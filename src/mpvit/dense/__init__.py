"""Detectors and segmenters on the network: one file a head, its torch modules and their cost side by side.

A head takes the backbone's pyramid, its maps at strides 4, 8, 16 and 32, and gives raw outputs: no boxes are chosen, no
masks pasted. A new head is one file with a ``HEAD`` and one line in ``TASKS``.
Axes: B images, C channels, H x W the grid of a map, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mpvit.closed_form import parts, record_backbone
from mpvit.config import MOST, ModelConfig
from mpvit.errors import UsageError, unknown_name
from mpvit.operations.tape import Tape
from mpvit.registry import resolve

if TYPE_CHECKING:
    from torch import nn

    from mpvit.dense.torch_network import DenseNetwork
    from mpvit.operations import Block, Node, Shape
    from mpvit.operations.tensor_spec import TensorSpec

LEVELS = 4
"""Maps of the pyramid that heads are made for."""

Layers = Mapping[str, Any]
"""A head's torch modules by name."""


@dataclass(frozen=True, slots=True)
class Task:
    """A head and what it is asked for; as in ``TASKS``, what was published or its paper has.

    Attributes:
        name: what the command line calls it.
        head: "module:object" of its ``Head``.
        size: (height, width) of the image in pixels.
        classes: K, the background not included.
        proposals: boxes an image that the box head judges; 0 where there is none.
        detections: boxes an image that the mask head is run on; 0 where there is none.
    """

    name: str
    head: str
    size: tuple[int, int]
    classes: int
    proposals: int = 0
    detections: int = 0

    def as_row(self) -> dict[str, Any]:
        """Return its name and what it is asked for as columns of a row."""
        regions = {"proposals": self.proposals, "detections": self.detections} if self.proposals else {}
        return {"task": self.name, "classes": self.classes, **regions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What stands on the backbone.

    Attributes:
        modules: (channels of each map of the pyramid, task) -> the torch modules.
        forward: (modules, pyramid, (height, width) of the image, *regions) -> the raw outputs.
        record: record of the operations of ``forward``: (tape, pyramid, task, (height, width) of the image) -> outputs. The
            blocks have the names of the modules.
        regions: (images, task) -> the shapes of the features of regions that ``forward`` takes beside the pyramid.
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
"""Each task at the size and classes that its figures on backbones like this one are published for: COCO's 80 classes,
ADE20K's 150."""


SEGMENTERS = ("semantic-fpn", "segformer", "upernet")
"""Tasks whose raw output is logits of each pixel, the lightest head's training first: those that ``mpvit train`` takes."""


def get_segmenter(name: str, classes: int) -> Task:
    """Return the task of a segmenter for so many classes; raise ``UsageError`` for another name."""
    if name not in SEGMENTERS:
        raise unknown_name("task of training", name, SEGMENTERS)
    return replace(TASKS[name], classes=classes)


def get_tasks(names: Sequence[str], **numbers: int | None) -> list[Task]:
    """Return the tasks of these names with ``numbers`` instead of their own: classes, proposals or detections.

    A number of what only some of them have is theirs; None stands for their own. Raises ``UsageError`` for an unknown name, a
    number below 1, or one of what none of them has.
    """
    for name in names:
        if name not in TASKS:
            raise unknown_name("task", name, TASKS)
    tasks = [TASKS[name] for name in names]
    given: dict[str, Any] = {field: value for field, value in numbers.items() if value is not None}
    for field, value in given.items():
        if not 1 <= value <= MOST:
            raise UsageError(f"{field} = {value}: must be a whole number of at least 1 and at most {MOST}")
        if not any(getattr(task, field) for task in tasks):
            having = ", ".join(task.name for task in TASKS.values() if getattr(task, field))
            raise UsageError(f"{field} = {value}: {', '.join(names)} has no {field}", hint=f"{having} has")
    return [replace(task, **{field: value for field, value in given.items() if getattr(task, field)}) for task in tasks]


def label(model: str, task: Task | None) -> str:
    """Return what a network is called: its name, or that of the task on it too."""
    return model if task is None else f"{task.name} on {model}"


def network(config: ModelConfig, task: Task, batch: int, height: int, width: int) -> Block:
    """Return the tree of one forward pass over (batch, in_channels, height, width): the backbone without classifier, the head.

    Raises ``UsageError`` for a backbone of another number of stages than four, and as ``mpvit.closed_form.network``.
    """
    tape = Tape()
    record_network(tape, config, task, batch, height, width)
    return tape.tree("DenseNetwork")


def record_network(tape: Tape, config: ModelConfig, task: Task, batch: int, height: int, width: int) -> list[TensorSpec]:
    """Record the forward pass of ``network`` and return its outputs; errors as there."""
    require_levels(config, task)
    with tape.group("backbone"):
        pyramid = record_backbone(tape, config, batch, height, width)
    head: Head = resolve(task.head)
    return tape.call("head", "DenseHead", head.record, tuple(pyramid), task, (height, width))


def input_shapes(config: ModelConfig, task: Task | None, batch: int, height: int, width: int) -> tuple[Shape, ...]:
    """Return the shapes of what a network takes: images, and the features of regions where the head of its task does."""
    images = (batch, config.in_channels, height, width)
    if task is None:
        return (images,)
    head: Head = resolve(task.head)
    return (images, *head.regions(batch, task))


def build(config: ModelConfig, task: Task) -> DenseNetwork:
    """Return the freshly initialised torch network that ``network`` counts; as there."""
    from mpvit.dense.torch_network import DenseNetwork

    require_levels(config, task)
    return DenseNetwork(config, task)


def cut(tree: Block, by: str) -> dict[str, Node]:
    """Cut a whole network's tree into named parts that sum to it: by ``part``, ``stage`` or ``path``.

    ``part`` is the backbone and each part of the head; the others cut the backbone too, as ``mpvit.closed_form.parts`` does.
    """
    body = tree.block("backbone")
    first: dict[str, Node] = {"backbone": body} if by == "part" else parts(body, by)
    return first | {name.replace("_", " "): child for name, child in tree.block("head").children.items()}


def require_levels(config: ModelConfig, task: Task) -> None:
    """Raise ``UsageError`` for a backbone that does not give the maps that heads take."""
    if len(config.stages) != LEVELS:
        raise UsageError(
            f"{task.name} on a network of {len(config.stages)} stages: it takes the maps of {LEVELS}",
            hint="they stand at strides 4, 8, 16 and 32",
        )

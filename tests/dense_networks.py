"""A small backbone with four stages, and tasks and inputs for it."""

import torch
from torch import Tensor

from mpvit import ModelConfig, StageConfig
from mpvit.dense import TASKS, Task, get_tasks, input_shapes

SMALL = ModelConfig(tuple(StageConfig(paths, 1, dim, 2, 2) for paths, dim in ((2, 8), (1, 12), (2, 4), (1, 6))))


def task_of(name: str, **numbers: int) -> Task:
    """The task with few regions; the cost is linear in their number."""
    few = {"proposals": 5, "detections": 2} if TASKS[name].proposals else {}
    return get_tasks([name], **(few | numbers))[0]


def inputs(config: ModelConfig, task: Task | None, shape: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """Zeros: images, and region features."""
    return tuple(map(torch.zeros, input_shapes(config, task, *shape)))


def sampled_inputs(config: ModelConfig, task: Task | None, shape: tuple[int, int, int]) -> tuple[Tensor, ...]:
    """The same with region features that need a gradient, as if they were sampled from the pyramid."""
    images, *regions = inputs(config, task, shape)
    return (images, *(features.requires_grad_() for features in regions))

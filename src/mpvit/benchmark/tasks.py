"""A detector or segmenter as what ``mpvit bench`` times: a network that takes images alone and gives one tensor."""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mpvit.config import ModelConfig
from mpvit.dense import Task, build, input_shapes


class TaskNetwork(nn.Module):
    """A task on a network, with features of regions that are drawn once where its head takes such."""

    def __init__(self, config: ModelConfig, task: Task, shape: tuple[int, int, int]) -> None:
        """Build it for images of (batch, height, width); numbers come from torch's random state."""
        super().__init__()
        self.network = build(config, task)
        _, *regions = input_shapes(config, task, *shape)
        self.regions = [f"regions_{index}" for index in range(len(regions))]
        for name, each in zip(self.regions, regions, strict=True):
            self.register_buffer(name, torch.randn(each))

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) -> the raw output; several are laid side by side, which takes well under 1 % of a pass."""
        outputs = tree_leaves(self.network(images, *(self.get_buffer(name) for name in self.regions)))
        return outputs[0] if len(outputs) == 1 else torch.cat([each.flatten() for each in outputs])

"""A detector or segmenter in the form that ``mpvit bench`` times: images in, one tensor out."""

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from mpvit.dense import Task, build
from mpvit.network import NamedNetwork


class TaskNetwork(nn.Module):
    """A network of a task, with one random set of region features if its head takes any."""

    def __init__(self, network: NamedNetwork, task: Task, batch: int) -> None:
        """Build it for ``batch`` images; the weights and region features come from torch's random state."""
        super().__init__()
        self.network = build(network.config, task)
        _, *regions = network.input_shapes(batch)
        self.regions = [f"regions_{index}" for index in range(len(regions))]
        for name, shape in zip(self.regions, regions, strict=True):
            self.register_buffer(name, torch.randn(shape))

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) -> the raw output; several outputs are concatenated, in well under 1 % of the time."""
        outputs = tree_leaves(self.network(images, *(self.get_buffer(name) for name in self.regions)))
        return outputs[0] if len(outputs) == 1 else torch.cat([each.flatten() for each in outputs])

"""A whole detector or segmenter in torch: the backbone and a head on its feature pyramid."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor, nn

from mpvit.architecture.config import ModelConfig
from mpvit.dense import Head, Task, build
from mpvit.imports import resolve
from mpvit.model.fused import fuse
from mpvit.model.network import MPViT


class DenseHead(nn.Module):
    """The head of a task, with torch's own initialisation."""

    def __init__(self, channels: Sequence[int], task: Task) -> None:
        """Build the head for feature maps with these ``channels``, finest first."""
        super().__init__()
        self.task = task
        self.kind: Head = resolve(task.head)
        for name, module in self.kind.modules(channels, task).items():
            self.add_module(name, module)

    def forward(self, pyramid: Sequence[Tensor], size: tuple[int, int], *regions: Tensor) -> Any:  # noqa: ANN401 - the head's
        """Map each (B, C, H, W) -> outputs of the head (see its ``forward``); ``size`` is the image's (height, width)."""
        return self.kind.forward(dict(self.named_children()), pyramid, size, *regions)


class DenseNetwork(nn.Module):
    """A backbone without classifier, and a head on its feature maps at strides 4, 8, 16 and 32."""

    def __init__(self, config: ModelConfig, task: Task) -> None:
        """Build and initialise the backbone and the head."""
        super().__init__()
        self.backbone = MPViT(replace(config, num_classes=0))
        self.head = DenseHead([config.next_dim(stage) for stage in range(len(config.stages))], task)

    @property
    def config(self) -> ModelConfig:
        """Configuration of the backbone."""
        return self.backbone.config

    def forward(self, image: Tensor, *regions: Tensor) -> Any:  # noqa: ANN401 - the head's
        """Map (B, in_channels, H, W) -> raw outputs; ``regions`` are the region features that the head takes."""
        height, width = image.shape[2:]
        return self.head(self.backbone.forward_features(image), (height, width), *regions)


def fuse_backbone(network: DenseNetwork, *, keep_memory: bool = False) -> DenseNetwork:
    """Return a copy for inference with a fused backbone (``mpvit.fuse``) and the same head."""
    fused = copy.copy(network)
    backbone = fuse(network.backbone, keep_memory=keep_memory)
    fused._modules = {**network._modules, "backbone": backbone}  # noqa: SLF001 - the head is shared, not copied
    return fused


@overload
def empty_network(config: ModelConfig, device: str, task: None = None) -> MPViT: ...
@overload
def empty_network(config: ModelConfig, device: str, task: Task | None) -> nn.Module: ...
def empty_network(config: ModelConfig, device: str, task: Task | None = None) -> nn.Module:
    """Return a network in evaluation mode with weights of 0, or without values on ``meta``; draw no random numbers."""
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        model = (build(config, task) if task else MPViT(config)).eval()
    if device != "meta":
        zeros = {name: torch.zeros(each.shape, dtype=each.dtype, device=device) for name, each in model.state_dict().items()}
        model.load_state_dict(zeros, assign=True)  # to_empty would load torch's compiler: 0.7 s
    return model

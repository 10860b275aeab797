"""The network: stem, stages, classifier (Lee et al., CVPR 2022, arXiv:2112.11010, figure 2 and table 1)."""

import math

from torch import Tensor, nn
from torch.nn import functional

from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import get_config
from mpvit.model.layers import ConvNormAct, PatchEmbedding
from mpvit.model.stages import Stage, pyramid


class MPViT(nn.Module):
    """Multi-Path Vision Transformer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        first = config.stages[0].dim
        self.stem = nn.Sequential(
            ConvNormAct(config.in_channels, first // 2, 3, stride=2), ConvNormAct(first // 2, first, 3, stride=2)
        )
        rates = iter(config.drop_path_rates())
        self.stages = nn.ModuleList(
            Stage(
                stage,
                config.next_dim(index),
                stride=config.stride(index),
                drop_path=[next(rates) for _ in range(stage.layers)],
                trained_grid=config.trained_grid(index),
            )
            for index, stage in enumerate(config.stages)
        )
        self.head = nn.Linear(config.stages[-1].dim, config.num_classes) if config.num_classes else None
        self.apply(initialise)

    def forward_features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map (b, in_channels, h, w) to each stage's output, (b, c, h/s, w/s) at strides s = 4, 8, 16, 32, ...

        A convolution of stride 2 maps a length of m to floor((m - 1) / 2) + 1.
        """
        return pyramid(self.stages, self.stem(x))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, in_channels, h, w) -> (b, num_classes) logits; with 0 classes the (b, c) features before them."""
        pooled = pool(self.forward_features(x)[-1])
        return pooled if self.head is None else self.head(pooled)


def pool(x: Tensor) -> Tensor:
    """Map (b, c, h, w) -> (b, c), the mean over the positions."""
    return functional.adaptive_avg_pool2d(x, 1).flatten(1)


def build_model(model: str | ModelConfig) -> MPViT:
    """Return the network of a variant or a configuration, freshly initialised; raise ``UsageError`` for an unknown variant."""
    return MPViT(model if isinstance(model, ModelConfig) else get_config(model))


def initialise(module: nn.Module) -> None:
    """Initialise as published: linear layers truncated normal, convolutions by fan-out, position encodings as in torch.

    The fan-out of the local branch's depthwise convolution is divided by its groups; that of a patch embedding is not.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, ConvNormAct):
        _normal_by_fan_out(module.conv, module.conv.groups)
    elif isinstance(module, PatchEmbedding):
        _normal_by_fan_out(module.depthwise, 1)
        _normal_by_fan_out(module.pointwise, 1)


def _normal_by_fan_out(conv: nn.Conv2d, groups: int) -> None:
    fan_out = math.prod(conv.kernel_size) * conv.out_channels // groups
    if not conv.weight.is_meta:  # there is nothing to initialise, and torch would load its compiler for it: 0.7 s
        nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))

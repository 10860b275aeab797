"""Small networks with random parameters and statistics, so that all paths differ."""

import torch

from mpvit.architecture.config import ModelConfig, StageConfig
from mpvit.model.network import MPViT, build_model

SMALL = ModelConfig((StageConfig(2, 1, 4, 2, 1), StageConfig(3, 2, 8, 2, 1)), num_classes=5)
SUMMED = ModelConfig((StageConfig(3, 1, 8, 2, 1, fusion="sum"), StageConfig(2, 1, 6, 2, 1, local=False)), num_classes=5)


@torch.no_grad()
def drawn(config: ModelConfig, seed: int = 0) -> MPViT:
    """Return the network in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    network = build_model(config).double().eval()
    for parameter in network.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(parameter[0].numel(), 1) ** 0.5)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) / 10)
    return network


def images(number: int, side: int = 32, seed: int = 1) -> torch.Tensor:
    """Return random images, (number, 3, side, side)."""
    return torch.randn(number, 3, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

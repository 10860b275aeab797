"""The ways to run a network that ``mpvit bench`` compares: from the plain network to one that is ready to be timed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor, nn

    from mpvit.model.network import MPViT

MODES = {
    "plain": "mpvit.benchmark.modes:plain",
    "fused": "mpvit.benchmark.modes:fused",
    "compile": "mpvit.benchmark.modes:compiled",
}

INFERENCE_ONLY = ("fused",)

PARTS = ("network", "layer")
"""What can be timed: the network as a whole, or its layers too."""


def plain(model: MPViT, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the plain network with weights of ``dtype``."""
    return copy.deepcopy(model).to(dtype)


def fused(model: MPViT, dtype: torch.dtype) -> nn.Module:
    """Return the equivalent network for inference: see ``mpvit.model.fused``."""
    from mpvit.model.fused import fuse

    return fuse(model, dtype=dtype)


def compiled(model: MPViT, dtype: torch.dtype) -> nn.Module:
    """Return the plain network behind ``torch.compile``, which needs a C++ compiler or, on CUDA, Triton."""
    network = plain(model, dtype)
    network.compile()
    return network


def forward(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call of one pass, (b, in_channels, h, w) -> (b, num_classes), that keeps nothing for gradients."""
    import torch

    def call() -> Tensor:
        with torch.inference_mode():
            return network(images)

    return call


def forward_and_backward(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call of one pass in training mode and of its gradients, for the mean square of the output."""
    import torch

    network.train()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def call() -> Tensor:
        output: Tensor = network(images)
        loss = output.float().square().mean()
        torch.autograd.grad(loss, learned, allow_unused=True)  # given, not kept: every call starts from the same
        return output.detach()

    return call

"""The modes of ``mpvit bench``: ways to run a network."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from mpvit.errors import MpvitError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor, nn

    from mpvit.model.network import MPViT

MODES = {
    "plain": "mpvit.benchmark.modes:plain",
    "fused": "mpvit.benchmark.modes:fused",
    "compile": "mpvit.benchmark.modes:compiled",
    "fused-compile": "mpvit.benchmark.modes:fused_compiled",
    "onnxruntime": "mpvit.benchmark.modes:onnxruntime",
    "openvino": "mpvit.benchmark.modes:openvino",
    "openvino-fused": "mpvit.benchmark.modes:openvino_fused",
}
"""Function of each mode: (plain network, float32 images (b, c, h, w), dtype) -> the network to time."""

ENGINES = {
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "openvino-fused": ("onnx", "onnxscript", "openvino"),
}
"""Modes in which another program runs the network, with the libraries that each needs. They take float32 images."""

COMPILED = frozenset({"compile", "fused-compile"})
"""Modes that use ``torch.compile``."""

INFERENCE_ONLY = ("fused", "fused-compile", *ENGINES)
"""Modes of classifiers in evaluation mode only."""

PARTS = ("network", "layer")
"""Parts that can be timed: the whole network, or its layers too."""


def plain(model: MPViT, _: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the plain network with weights of ``dtype``."""
    return copy.deepcopy(model).to(dtype)


def fused(model: MPViT, _: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the equivalent network for inference: see ``mpvit.model.fused``."""
    from mpvit.model.fused import fuse

    return fuse(model, dtype, keep_memory=True)  # the fastest way to use it; this process only measures


def compiled(model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the plain network, compiled by ``torch.compile``, which needs a C++ compiler or, on CUDA, Triton."""
    network = plain(model, images, dtype)
    network.compile()
    return network


def fused_compiled(model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the equivalent network for inference, compiled by ``torch.compile``."""
    network = fused(model, images, dtype)
    network.compile()
    return network


def onnxruntime(model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the plain network in onnxruntime, exported for these images, with as many threads as torch has."""
    import torch

    from mpvit.export import onnx
    from mpvit.export.exported_network import ExportedNetwork

    if dtype not in (torch.float32, torch.float16):
        raise MpvitError(f"onnxruntime computes no {_name(dtype)} on the CPU")
    return ExportedNetwork(onnx.open_bytes(_exported("onnx", model, images, _name(dtype)), torch.get_num_threads()))


def openvino(model: MPViT, images: Tensor, dtype: torch.dtype, *, fused: bool = False) -> nn.Module:
    """Return the plain network in OpenVINO, exported for these images, with as many threads as torch has.

    Raises ``MpvitError`` if the processor does not compute in ``dtype``.
    """
    import torch

    from mpvit.export import openvino
    from mpvit.export.exported_network import ExportedNetwork

    files = _exported("openvino", model, images, "float32", fused=fused)
    return ExportedNetwork(openvino.open_bytes(files, torch.get_num_threads(), _name(dtype)))


def openvino_fused(model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the equivalent network for inference in OpenVINO."""
    return openvino(model, images, dtype, fused=True)


def _exported(target: str, model: MPViT, images: Tensor, dtype: str, *, fused: bool = False) -> Mapping[str, bytes]:
    from mpvit.export import ExportOptions, get_target

    if images.device.type != "cpu":
        raise MpvitError(f"device {str(images.device)!r}: engines run on the cpu only")
    batch, _, height, width = images.shape
    asked = ExportOptions(target=target, dtype=dtype, fused=fused, batch=batch, size=(height, width))
    return get_target(target).write(model, asked, {}, None)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def forward(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call of one forward pass, (b, in_channels, h, w) -> (b, num_classes), in inference mode."""
    import torch

    def call() -> Tensor:
        with torch.inference_mode():
            return network(images)

    return call


def forward_and_backward(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call of one forward and backward pass in training mode; the loss is the mean square of the output."""
    import torch

    network.train()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def call() -> Tensor:
        output: Tensor = network(images)
        loss = output.float().square().mean()
        torch.autograd.grad(loss, learned, allow_unused=True)  # does not accumulate gradients: all calls do the same
        return output.detach()

    return call

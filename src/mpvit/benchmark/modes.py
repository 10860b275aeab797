"""The modes of ``mpvit bench``: ways to run a network."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mpvit.errors import MpvitError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from mpvit.model.network import MPViT


class Mode(NamedTuple):
    """One way to run a network.

    Attributes:
        fused: whether it is the equivalent network for inference (``mpvit.fuse``).
        compiled: whether ``torch.compile`` compiles it, which needs a C++ compiler or, on CUDA, Triton.
        engine: export target whose engine runs it on float32 images, on the CPU; empty for torch.
    """

    fused: bool = False
    compiled: bool = False
    engine: str = ""


MODES = {
    "plain": Mode(),
    "fused": Mode(fused=True),
    "compile": Mode(compiled=True),
    "fused-compile": Mode(fused=True, compiled=True),
    "onnxruntime": Mode(engine="onnx"),
    "openvino": Mode(engine="openvino"),
    "openvino-fused": Mode(fused=True, engine="openvino"),
}

LIBRARIES = {"": (), "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
"""Libraries that each engine needs."""

INFERENCE_ONLY = tuple(name for name, mode in MODES.items() if mode.fused or mode.engine)
"""Modes of classifiers in evaluation mode only."""

PARTS = ("network", "layer")
"""Parts that can be timed: the whole network, or its layers too."""


def build(mode: Mode, model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return ``model`` as ``mode`` runs it on ``images``, (b, c, h, w), in ``dtype``.

    Raises ``MpvitError`` if an engine does not run on the device or does not compute in ``dtype``.
    """
    from mpvit.model.fused import fuse

    if mode.engine:
        return _exported(mode, model, images, str(dtype).removeprefix("torch."))
    # keep_memory is the fastest way to use the fused network; this process only measures
    network = fuse(model, dtype, keep_memory=True) if mode.fused else copy.deepcopy(model).to(dtype)
    if mode.compiled:
        network.compile()
    return network


def _exported(mode: Mode, model: MPViT, images: Tensor, dtype: str) -> nn.Module:
    """Return the network exported for these images, in an engine with as many threads as torch has."""
    import torch

    from mpvit.export import ExportOptions, get_target, onnx, openvino
    from mpvit.export.exported_network import ExportedNetwork

    if images.device.type != "cpu":
        raise MpvitError(f"device {str(images.device)!r}: engines run on the cpu only")
    if mode.engine == "onnx" and dtype == "bfloat16":
        raise MpvitError(f"onnxruntime does not compute in {dtype} on the CPU")
    batch, _, height, width = images.shape
    file_dtype = dtype if mode.engine == "onnx" else "float32"  # OpenVINO converts the network when it opens the file
    options = ExportOptions(target=mode.engine, dtype=file_dtype, fused=mode.fused, batch=batch, size=(height, width))
    files, threads = get_target(mode.engine).write(model, options, {}, None), torch.get_num_threads()
    if mode.engine == "onnx":
        return ExportedNetwork(onnx.open_bytes(files, threads))
    return ExportedNetwork(openvino.open_bytes(files, threads, dtype))


def forward(network: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    """Return a call of one forward pass, (b, in_channels, h, w) -> (b, num_classes), in inference mode."""
    import torch

    return torch.inference_mode()(lambda: network(images))


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

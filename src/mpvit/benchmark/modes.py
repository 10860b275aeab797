"""The ways to run a network that ``mpvit bench`` compares: from the plain network to one that is ready to be timed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from mpvit.errors import MpvitError
from mpvit.units import ITEM_BYTES

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
"""Each makes a network of the plain one, images as it takes them, (b, c, h, w) in float32, and a dtype."""

ENGINES = {
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
    "openvino-fused": ("onnx", "onnxscript", "openvino"),
}
"""The modes that another program runs, which takes float32 images whatever it computes in, and the libraries of each."""

COMPILED = frozenset({"compile", "fused-compile"})
"""The modes behind ``torch.compile``."""

INFERENCE_ONLY = ("fused", "fused-compile", *ENGINES)

TF32 = "tf32"
"""float32 whose products CUDA's tensor cores round to TF32 first; in float32 they do not, whatever torch's default is."""

DTYPES = (*ITEM_BYTES, TF32)

PARTS = ("network", "layer")
"""What can be timed: the network as a whole, or its layers too."""


def plain(model: MPViT, _: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return a copy of the plain network with weights of ``dtype``."""
    return copy.deepcopy(model).to(dtype)


def fused(model: MPViT, _: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the equivalent network for inference: see ``mpvit.model.fused``."""
    from mpvit.model.fused import fuse

    return fuse(model, dtype, keep_memory=True)  # the fastest way to use it; this process only measures


def compiled(model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the plain network behind ``torch.compile``, which needs a C++ compiler or, on CUDA, Triton."""
    network = plain(model, images, dtype)
    network.compile()
    return network


def fused_compiled(model: MPViT, images: Tensor, dtype: torch.dtype) -> nn.Module:
    """Return the equivalent network for inference behind ``torch.compile``."""
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
    """Return the plain network in OpenVINO likewise; what the processor has no ``dtype`` for is refused."""
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
        raise MpvitError(f"device {str(images.device)!r}: engines run on the cpu here")
    batch, _, height, width = images.shape
    asked = ExportOptions(target=target, dtype=dtype, fused=fused, batch=batch, size=(height, width))
    return get_target(target).write(model, asked, {}, None)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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

"""The operations with weights of the fused network, and how they are folded from the plain network's modules.

On a CPU oneDNN computes them, with weights in its own layout.

Axes: b batch, h and w the grid, rows = b·h·w; in, out and c channels. A map is (b, c, h, w), channels-last in memory, so its
tokens, (rows, c), are a view of it. Every output is a new tensor.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mpvit.devices import in_torch_graph
from mpvit.model import onednn
from mpvit.model.layers import ConvNormAct, ConvPositionEncoding, ConvRelativePositionEncoding
from mpvit.model.onednn import Activation

_ACTIVATE: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda y: y,
    "gelu": functional.gelu,
    "hardswish": partial(functional.hardswish, inplace=True),
}


class FusedOperation(nn.Module):
    """An operation whose weights are buffers: they move with the network to a device, and are not trained.

    It takes a map, and if it is used so a second one that is combined with the result; each instance is always used in one way.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: Activation) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.activation: Activation = activation
        self._bound: Callable[..., Tensor] | None = None

    def forward(self, *maps: Tensor) -> Tensor:
        """Compute the operation, on a CPU by oneDNN's operator, which is kept until the weights are replaced."""
        if in_torch_graph():
            return self._compute(*maps)
        if self._bound is None:
            if not onednn.supports(maps[0]):
                return self._compute(*maps)
            self._bound = self._bind(*maps)
        return self._bound(*maps)

    @abstractmethod
    def _compute(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Compute the operation with torch's operators, on any device and in a graph."""

    @abstractmethod
    def _bind(self, x: Tensor, other: Tensor | None = None) -> Callable[..., Tensor]:
        """Return oneDNN's operator with these weights, optimised for inputs like ``x``."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        self._bound = None
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def _load_from_state_dict(self, *args: Any) -> None:  # noqa: ANN401 - torch's own
        self._bound = None
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        """Leave oneDNN's operator out of copies and pickles."""
        return self.__dict__ | {"_bound": None}


class FusedConv(FusedOperation):
    """Dense or depthwise convolution, padded to "same": (b, in, h, w) -> (b, out, h/stride, w/stride).

    At stride 1 and without activation the result may be multiplied by a second map, (b, out, h, w).
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "none",
    ) -> None:
        """Copy ``weight`` (out, in / groups, k, k), k odd, and ``bias`` (out,)."""
        weight = weight.to(dtype, copy=True, memory_format=torch.channels_last)
        super().__init__(weight, bias.to(dtype, copy=True), activation)
        self.stride, self.groups = stride, groups

    def _compute(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        if torch.compiler.is_dynamo_compiling():
            x = x.contiguous()  # for dynamic sizes torch's compiler cannot find the strides of a view
        padding = self.weight.shape[-1] // 2
        y = functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return _ACTIVATE[self.activation](y) if other is None else y * other

    def _bind(self, x: Tensor, other: Tensor | None = None) -> Callable[..., Tensor]:
        times = other is not None
        return onednn.convolution(self.weight, self.bias, self.stride, self.groups, self.activation, x.shape, times=times)


class FusedLinear(FusedOperation):
    """Linear layer, or 1x1 convolution of a map's tokens: (rows, in) -> (rows, out).

    Without activation a residual, (rows, out), may be added to the result.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, activation: Activation = "none") -> None:
        """Copy ``weight`` (out, in) or (out, in, 1, 1), and ``bias`` (out,) or None."""
        weight = weight.flatten(1).to(dtype, copy=True, memory_format=torch.contiguous_format)
        super().__init__(weight, None if bias is None else bias.to(dtype, copy=True), activation)

    def _compute(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        y = functional.linear(x, self.weight, self.bias)
        return _ACTIVATE[self.activation](y) if other is None else y + other

    def _bind(self, _: Tensor, other: Tensor | None = None) -> Callable[..., Tensor]:
        return onednn.linear(self.weight, self.bias, self.activation, plus=other is not None)


class FusedNorm(nn.Module):
    """Layer norm: (rows, c) -> (rows, c). Its affine part is not folded: torch is slower without one."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", norm.weight.to(dtype, copy=True))
        self.register_buffer("bias", norm.bias.to(dtype, copy=True))
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, c) -> (rows, c)."""
        weight = self.weight
        return torch.layer_norm(x, weight.shape, weight, self.bias, self.eps)


def fold_batch_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the weight and bias, in float64, of a convolution without bias and the batch norm after it."""
    mean, variance = cast("Tensor", norm.running_mean).double(), cast("Tensor", norm.running_var).double()
    scale, shift = norm.weight.double(), norm.bias.double()
    return fuse_conv_bn_weights(conv.weight.double(), None, mean, variance, norm.eps, scale, shift)


def fold_convolution(block: ConvNormAct, dtype: torch.dtype) -> FusedConv:
    """Return a block of convolution, batch norm and activation as one operation."""
    stride, groups = block.conv.stride[0], block.conv.groups
    folded = fold_batch_norm(block.conv, block.norm)
    return FusedConv(*folded, dtype, stride=stride, groups=groups, activation="hardswish" if block.act else "none")


def fold_pointwise(block: ConvNormAct, dtype: torch.dtype) -> FusedLinear:
    """Return a block of 1x1 convolution, batch norm and activation as one operation on tokens."""
    return FusedLinear(*fold_batch_norm(block.conv, block.norm), dtype, "hardswish" if block.act else "none")


def fold_residual(encoding: ConvPositionEncoding, dtype: torch.dtype) -> FusedConv:
    """Return x + conv(x) as one convolution."""
    weight = encoding.conv.weight.to(torch.float64, copy=True)
    weight[:, :, weight.shape[2] // 2, weight.shape[3] // 2] += 1
    return FusedConv(weight, cast("Tensor", encoding.conv.bias), dtype, groups=encoding.conv.groups)


def merge_windows(encoding: ConvRelativePositionEncoding, dtype: torch.dtype) -> FusedConv:
    """Return one convolution for all heads, with smaller kernels zero-padded: it is faster than one for each kernel size."""
    convs = cast("list[nn.Conv2d]", list(encoding.convs))
    widest = max(conv.kernel_size[0] for conv in convs)
    weights = [functional.pad(conv.weight, [(widest - conv.kernel_size[0]) // 2] * 4) for conv in convs]
    weight, bias = torch.cat(weights), torch.cat([cast("Tensor", conv.bias) for conv in convs])
    return FusedConv(weight, bias, dtype, groups=len(weight))

"""The operations with weights of the fused network. On a CPU oneDNN computes them, with weights in its own layout.

Axes: b batch, h and w the grid, rows = b·h·w; in, out and c channels. A map is (b, c, h, w), channels-last in memory, so its
tokens, (rows, c), are a view of it. Every output is a new tensor.
"""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpvit.model import onednn
from mpvit.model.onednn import Activation
from mpvit.torch_graph import in_torch_graph

_ACTIVATE: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda y: y,
    "gelu": functional.gelu,
    "hardswish": partial(functional.hardswish, inplace=True),
}


class FusedOperation(nn.Module):
    """An operation whose weights are buffers: they move with the network to a device, and are not trained."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Register both as they are."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self._bound: Callable[..., Tensor] | None = None

    def forward(self, *maps: Tensor) -> Tensor:
        """Compute the operation, on a CPU by oneDNN's operator, which is kept until the weights are replaced."""
        if in_torch_graph():
            return self._compute(*maps)
        if self._bound is None:
            if not onednn.supports(maps[0]):
                return self._compute(*maps)
            self._bound = self._bind(maps[0])
        return self._bound(*maps)

    @abstractmethod
    def _compute(self, *maps: Tensor) -> Tensor:
        """Compute the operation with torch's operators, on any device and in a graph."""

    @abstractmethod
    def _bind(self, x: Tensor) -> Callable[..., Tensor]:
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


class FusedNorm(nn.Module):
    """Layer norm: (rows, c) -> (rows, c). Its affine part is not folded: torch is slower without one."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        """Copy ``norm``."""
        super().__init__()
        self.register_buffer("weight", norm.weight.to(dtype, copy=True))
        self.register_buffer("bias", norm.bias.to(dtype, copy=True))
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, c) -> (rows, c)."""
        weight = self.weight
        return torch.layer_norm(x, weight.shape, weight, self.bias, self.eps)


class FusedConv(FusedOperation):
    """Dense or depthwise convolution, padded to "same": (b, in, h, w) -> (b, out, h/stride, w/stride)."""

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
        """Copy ``weight`` (out, in / groups, k, k), k odd, and ``bias`` (out,); ``activation`` comes after them."""
        super().__init__(weight.to(dtype, copy=True, memory_format=torch.channels_last), bias.to(dtype, copy=True))
        self.stride, self.groups = stride, groups
        self.activation: Activation = activation

    def _compute(self, *maps: Tensor) -> Tensor:
        x = maps[0]
        if torch.compiler.is_dynamo_compiling():
            x = x.contiguous()  # for dynamic sizes torch's compiler cannot find the strides of a view
        padding = self.weight.shape[-1] // 2
        y = functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return _ACTIVATE[self.activation](y)

    def _bind(self, x: Tensor) -> Callable[..., Tensor]:
        return onednn.convolution(self.weight, self.bias, self.stride, self.groups, self.activation, x.shape)


class FusedConvTimes(FusedConv):
    """Depthwise convolution at stride 1, multiplied by a second map: two (b, c, h, w) -> (b, c, h, w)."""

    def _compute(self, *maps: Tensor) -> Tensor:
        x, other = maps
        return super()._compute(x) * other

    def _bind(self, x: Tensor) -> Callable[..., Tensor]:
        return onednn.convolution_times(self.weight, self.bias, self.groups, x.shape)


class FusedLinear(FusedOperation):
    """Linear layer, or 1x1 convolution of a map's tokens: (rows, in) -> (rows, out)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, activation: Activation = "none") -> None:
        """Copy ``weight`` (out, in) or (out, in, 1, 1), and ``bias`` (out,) or None; ``activation`` comes after them."""
        weight = weight.flatten(1).to(dtype, copy=True, memory_format=torch.contiguous_format)
        super().__init__(weight, None if bias is None else bias.to(dtype, copy=True))
        self.activation: Activation = activation

    def _compute(self, *maps: Tensor) -> Tensor:
        return _ACTIVATE[self.activation](functional.linear(maps[0], self.weight, self.bias))

    def _bind(self, _: Tensor) -> Callable[..., Tensor]:
        return onednn.linear(self.weight, self.bias, self.activation)


class FusedLinearPlus(FusedLinear):
    """Linear layer plus other tokens, a residual: (rows, in) and (rows, out) -> (rows, out)."""

    def _compute(self, *maps: Tensor) -> Tensor:
        x, other = maps
        return super()._compute(x) + other

    def _bind(self, _: Tensor) -> Callable[..., Tensor]:
        return onednn.linear_plus(self.weight, self.bias)

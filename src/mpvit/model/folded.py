"""The fused network's operations with weights, bound to them once: on a CPU in the layout in which oneDNN multiplies.

Axes: b batch, h and w the grid, rows = b·h·w; in, out and c channels. A map is (b, c, h, w), channels-last in memory, so that
it is its tokens, (rows, c), too.
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

_ACTIVATE: dict[Activation, Callable[[Tensor], Tensor]] = {
    "none": lambda y: y,
    "gelu": functional.gelu,
    "hardswish": partial(functional.hardswish, inplace=True),
}


def in_graph() -> bool:
    """Whether torch puts what runs into a graph, by its compiler, export or trace, which is to serve every batch and size."""
    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]


class Folded(nn.Module):
    """An operation whose weights are buffers: they follow the network to a device, and nothing trains them."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Keep both as they are."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self._bound: Callable[..., Tensor] | None = None

    def forward(self, *maps: Tensor) -> Tensor:
        """Compute what the class says; oneDNN's operation is kept until the weights are others."""
        if in_graph():
            return self.compute(*maps)
        if self._bound is None:
            if not onednn.takes(maps[0]):
                return self.compute(*maps)
            self._bound = self.bind(maps[0])
        return self._bound(*maps)

    @abstractmethod
    def compute(self, *maps: Tensor) -> Tensor:
        """Do it by torch's operations, on any device and in a graph."""

    @abstractmethod
    def bind(self, x: Tensor) -> Callable[..., Tensor]:
        """Return oneDNN's operation with these weights, at its best for inputs like ``x``."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        self._bound = None
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def _load_from_state_dict(self, *args: Any) -> None:  # noqa: ANN401 - torch's own
        self._bound = None
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is bound out of copies and pickles."""
        return self.__dict__ | {"_bound": None}


class FusedNorm(nn.Module):
    """Layer norm: (rows, c) -> (rows, c), fresh. Its affine part stays: torch's loop without one is the slower."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        """Copy ``norm``."""
        super().__init__()
        self.register_buffer("weight", norm.weight.to(dtype, copy=True))
        self.register_buffer("bias", norm.bias.to(dtype, copy=True))
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """Compute it."""
        weight = self.weight
        return torch.layer_norm(x, weight.shape, weight, self.bias, self.eps)


class FusedConv(Folded):
    """Convolution padded to "same", dense or depthwise: (b, in, h, w) -> (b, out, h/stride, w/stride), fresh."""

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
        """Take ``weight`` (out, in / groups, k, k), k odd, and ``bias`` (out,); ``activation`` follows."""
        super().__init__(weight.to(dtype, copy=True, memory_format=torch.channels_last), bias.to(dtype, copy=True))
        self.stride, self.groups = stride, groups
        self.activation: Activation = activation

    def compute(self, *maps: Tensor) -> Tensor:
        """Do it by torch's operations."""
        x = maps[0]
        if torch.compiler.is_dynamo_compiling():
            x = x.contiguous()  # of open sizes, torch's compiler cannot tell how a view of it is laid out
        padding = self.weight.shape[-1] // 2
        y = functional.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)
        return _ACTIVATE[self.activation](y)

    def bind(self, x: Tensor) -> Callable[..., Tensor]:
        """Return oneDNN's operation."""
        return onednn.convolution(self.weight, self.bias, self.stride, self.groups, self.activation, x.shape)


class FusedConvTimes(FusedConv):
    """Depthwise convolution at stride 1, multiplied by a second map: two (b, c, h, w) -> (b, c, h, w), fresh."""

    def compute(self, *maps: Tensor) -> Tensor:
        """Do it by torch's operations."""
        x, other = maps
        return super().compute(x) * other

    def bind(self, x: Tensor) -> Callable[..., Tensor]:
        """Return oneDNN's operation."""
        return onednn.convolution_times(self.weight, self.bias, self.groups, x.shape)


class FusedLinear(Folded):
    """Linear layer, or 1x1 convolution of a map's tokens: (rows, in) -> (rows, out), fresh."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, activation: Activation = "none") -> None:
        """Take ``weight`` (out, in) or (out, in, 1, 1), and ``bias`` (out,) or None; ``activation`` follows."""
        weight = weight.flatten(1).to(dtype, copy=True, memory_format=torch.contiguous_format)
        super().__init__(weight, None if bias is None else bias.to(dtype, copy=True))
        self.activation: Activation = activation

    def compute(self, *maps: Tensor) -> Tensor:
        """Do it by torch's operations."""
        return _ACTIVATE[self.activation](functional.linear(maps[0], self.weight, self.bias))

    def bind(self, _: Tensor) -> Callable[..., Tensor]:
        """Return oneDNN's operation."""
        return onednn.linear(self.weight, self.bias, self.activation)


class FusedLinearPlus(FusedLinear):
    """Linear layer plus other tokens, a residual: (rows, in) and (rows, out) -> (rows, out), fresh."""

    def compute(self, *maps: Tensor) -> Tensor:
        """Do it by torch's operations."""
        x, other = maps
        return super().compute(x) + other

    def bind(self, _: Tensor) -> Callable[..., Tensor]:
        """Return oneDNN's operation."""
        return onednn.linear_plus(self.weight, self.bias)

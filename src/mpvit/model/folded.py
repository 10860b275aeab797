"""The fused network's operations with weights, each kept in the layout in which it is multiplied.

Axes: b batch, h and w the grid, rows = b·h·w, c channels of a map, g paths that run side by side.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Folded(nn.Module):
    """A weight and a bias, kept as buffers: they follow the network to a device, and nothing trains them."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Keep both as they are."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)


class FusedConv(Folded):
    """Convolution of a channels-last map, padded to "same"; dense or depthwise by the shape of its weight."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, stride: int = 1) -> None:
        """Take ``weight`` (out, in / groups, k, k), k odd, and ``bias`` (out,)."""
        super().__init__(weight.to(dtype, copy=True, memory_format=torch.channels_last), bias.to(dtype))
        self.stride = stride

    def forward(self, x: Tensor, channels: slice = slice(None)) -> Tensor:
        """Map (b, h, w, in) -> (b, h/stride, w/stride, out), fresh; ``channels`` are those out of a depthwise weight."""
        weight, groups = self.weight[channels], x.shape[-1] // self.weight.shape[1]
        on_grid, padding = x.permute(0, 3, 1, 2), weight.shape[-1] // 2  # (b, in, h, w)
        y = functional.conv2d(on_grid, weight, self.bias[channels], self.stride, padding, groups=groups)
        return y.permute(0, 2, 3, 1).contiguous()  # a view of what a channels-last convolution wrote


class FusedPointwise(Folded):
    """1x1 convolution of a channels-last map, as a matrix product."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        """Take ``weight`` (out, in, 1, 1), kept as (in, out), and ``bias`` (out,)."""
        super().__init__(weight.flatten(1).t().to(dtype).contiguous(), bias.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, in) -> (b, h, w, out), fresh."""
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], -1)


class PathLinears(Folded):
    """The same linear layer of each path of a stage; ``paths`` says which of them run."""

    def __init__(self, paths: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
        """Take a weight (out, in) and a bias (out,) from each path; keep (paths, in, out) and (paths, out)."""
        weights, biases = zip(*paths, strict=True)
        super().__init__(torch.stack([weight.t() for weight in weights]).to(dtype), torch.stack(biases).to(dtype))

    def side_by_side(self, x: Tensor, paths: slice) -> Tensor:
        """Map (g, rows, in) -> (rows, g, out)."""
        if torch.compiler.is_compiling():
            return self.one_by_one(x, paths).transpose(
                0, 1
            )  # the engines and compilers that take a graph write where they like
        bias = self.bias[paths]
        y = x.new_empty(x.shape[1], *bias.shape).copy_(bias)  # never a view of the bias, as expand() is at one row
        y.transpose(0, 1).baddbmm_(x, self.weight[paths])
        return y

    def one_by_one(self, x: Tensor, paths: slice) -> Tensor:
        """Map (g, rows, in) -> (g, rows, out)."""
        if torch.compiler.is_compiling():
            parts = zip(self.bias[paths], x, self.weight[paths], strict=True)
            return torch.stack([torch.addmm(bias, part, weight) for bias, part, weight in parts])
        return torch.baddbmm(self.bias[paths].unsqueeze(1), x, self.weight[paths])

    def add_to(self, stream: Tensor, x: Tensor, paths: slice) -> Tensor:
        """Add the map of ``x``, (g, rows, in), to ``stream``, (rows, g, out), and return it."""
        if torch.compiler.is_compiling():
            return stream + self.side_by_side(x, paths)
        stream.add_(self.bias[paths]).transpose(0, 1).baddbmm_(x, self.weight[paths])
        return stream


class FusedFusion(Folded):
    """The fusion of maps that come one after another: a product of each, summed, or one product of the maps' sum."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, summed: bool) -> None:
        """Take ``weight`` (out, in, 1, 1), kept as (in, out), and ``bias`` (out,); ``in`` is c where maps are ``summed``."""
        super().__init__(weight.flatten(1).t().to(dtype).contiguous(), bias.to(dtype))
        self.summed = summed

    def add(self, total: Tensor | None, maps: Tensor, first: int) -> Tensor:
        """Add maps, (rows, k·c), to the total so far, None at first, and return it; ``first`` is their first channel."""
        if self.summed:
            maps = maps.unflatten(1, (-1, len(self.weight))).sum(1)
            return maps if total is None else total.add_(maps)
        weight = self.weight[first : first + maps.shape[1]]
        return torch.addmm(self.bias, maps, weight) if total is None else total.addmm_(maps, weight)

    def finish(self, total: Tensor) -> Tensor:
        """Map the total -> (rows, out), fresh or the total itself."""
        return torch.addmm(self.bias, total, self.weight) if self.summed else total

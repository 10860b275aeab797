"""The fused network's operations with weights, each kept in the layout in which it is multiplied.

Axes: b batch, h and w the grid, rows = b·h·w, c channels of a map, g paths that run side by side.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpvit.model import onednn


class Folded(nn.Module):
    """A weight and a bias, kept as buffers: they follow the network to a device, and nothing trains them."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """Keep both as they are."""
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self._packed: dict[object, Tensor] = {}

    def packed(self, part: object, pack: Callable[[], Tensor]) -> Tensor:
        """Return ``pack()``, the weight or a part of it as oneDNN likes it, kept until the weight is another."""
        if part not in self._packed:
            self._packed[part] = pack()
        return self._packed[part]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        self._packed.clear()
        moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return moved

    def _load_from_state_dict(self, *args: Any) -> None:  # noqa: ANN401 - torch's own
        self._packed.clear()
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is packed out of copies and pickles."""
        return self.__dict__ | {"_packed": {}}


class FusedConv(Folded):
    """Convolution of a channels-last map, padded to "same"; dense or depthwise by the shape of its weight."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, stride: int = 1, *, act: bool = False) -> None:
        """Take ``weight`` (out, in / groups, k, k), k odd, and ``bias`` (out,); a Hardswish follows where ``act`` is on."""
        super().__init__(weight.to(dtype, copy=True, memory_format=torch.channels_last), bias.to(dtype))
        self.stride, self.act = stride, act

    def forward(self, x: Tensor, channels: slice = slice(None), times: Tensor | None = None) -> Tensor:
        """Map (b, h, w, in) -> (b, h/stride, w/stride, out), fresh, multiplied by ``times`` of the same shape if given.

        ``channels`` are those out of a depthwise weight.
        """
        weight, bias, groups = self.weight[channels], self.bias[channels], x.shape[-1] // self.weight.shape[1]
        on_grid, padding = x.permute(0, 3, 1, 2), weight.shape[-1] // 2  # (b, in, h, w)
        if onednn.takes(x):
            shape, window = on_grid.shape, weight.shape[-1]
            packed = self.packed(
                (channels.start, channels.stop), lambda: onednn.pack_convolution(weight, self.stride, groups, shape)
            )
            y = (
                onednn.convolve(on_grid, packed, bias, self.stride, groups, window, act=self.act)
                if times is None
                else onednn.convolve_times(on_grid, packed, bias, groups, window, times.permute(0, 3, 1, 2))
            )
            return y.permute(0, 2, 3, 1).contiguous()
        if torch.compiler.is_dynamo_compiling():
            on_grid = on_grid.contiguous()  # of open sizes, torch's compiler cannot tell how a view of it is laid out
        y = functional.conv2d(on_grid, weight, bias, self.stride, padding, groups=groups)
        y = y.permute(0, 2, 3, 1).contiguous()  # a view of what a channels-last convolution wrote
        y = y if times is None else y.mul_(times)
        return functional.hardswish(y, inplace=True) if self.act else y


class FusedPointwise(Folded):
    """1x1 convolution of a channels-last map, as a matrix product."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, act: bool = False) -> None:
        """Take ``weight`` (out, in, 1, 1), kept as (in, out), and ``bias`` (out,); a Hardswish follows where ``act`` is on."""
        super().__init__(weight.flatten(1).t().to(dtype).contiguous(), bias.to(dtype))
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, in) -> (b, h, w, out), fresh."""
        rows = x.view(-1, x.shape[-1])
        if onednn.takes(x):
            packed = self.packed(None, lambda: onednn.pack_linear(self.weight.t()))
            y = onednn.linear(rows, packed, self.bias, "hardswish" if self.act else "")
        else:
            y = torch.addmm(self.bias, rows, self.weight)
            y = functional.hardswish(y, inplace=True) if self.act else y
        return y.view(*x.shape[:-1], -1)


class PathLinears(Folded):
    """The same linear layer of each path of a stage; ``paths`` says which of them run."""

    def __init__(self, paths: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
        """Take a weight (out, in) and a bias (out,) from each path; keep (paths, in, out) and (paths, out)."""
        weights, biases = zip(*paths, strict=True)
        super().__init__(torch.stack([weight.t() for weight in weights]).to(dtype), torch.stack(biases).to(dtype))

    def side_by_side(self, x: Tensor, paths: slice) -> Tensor:
        """Map (g, rows, in) -> (rows, g, out)."""
        if _one_by_one(x):  # engines and compilers that take a graph write where they like
            return self.one_by_one(x, paths).transpose(0, 1)
        bias = self.bias[paths]
        y = x.new_empty(x.shape[1], *bias.shape).copy_(bias)  # never a view of the bias, as expand() is at one row
        y.transpose(0, 1).baddbmm_(x, self.weight[paths])
        return y

    def one_by_one(self, x: Tensor, paths: slice, *, gelu: bool = False) -> Tensor:
        """Map (g, rows, in) -> (g, rows, out), behind a GELU where ``gelu`` is on."""
        if len(x) == 1 and onednn.takes(x):
            y = onednn.linear(x[0], self._packed_path(paths.start), self.bias[paths.start], "gelu" if gelu else "")
            return y.unsqueeze(0)
        if torch.compiler.is_compiling():
            parts = zip(self.bias[paths], x, self.weight[paths], strict=True)
            y = torch.stack([torch.addmm(bias, part, weight) for bias, part, weight in parts])
        else:
            y = torch.baddbmm(self.bias[paths].unsqueeze(1), x, self.weight[paths])
        return functional.gelu(y) if gelu else y

    def add_to(self, stream: Tensor, x: Tensor, paths: slice) -> Tensor:
        """Return ``stream``, (rows, g, out), with the map of ``x``, (g, rows, in), added; it may be overwritten."""
        if len(x) == 1 and onednn.takes(x):
            packed, bias = self._packed_path(paths.start), self.bias[paths.start]
            return onednn.linear_plus(x[0], packed, bias, stream.squeeze(1)).unsqueeze(1)
        if torch.compiler.is_compiling():
            return stream + self.side_by_side(x, paths)
        stream.add_(self.bias[paths]).transpose(0, 1).baddbmm_(x, self.weight[paths])
        return stream

    def _packed_path(self, path: int) -> Tensor:
        return self.packed(path, lambda: onednn.pack_linear(self.weight[path].t()))


def _one_by_one(x: Tensor) -> bool:
    """Whether the paths of ``x``, (g, rows, in), are multiplied each by itself."""
    return torch.compiler.is_compiling() or (len(x) == 1 and onednn.takes(x))


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
        if onednn.takes(maps):
            packed = self.packed((first, maps.shape[1]), lambda: onednn.pack_linear(weight.t()))
            if total is None:
                return onednn.linear(maps, packed, self.bias)
            return onednn.linear_plus(maps, packed, None, total)
        return torch.addmm(self.bias, maps, weight) if total is None else total.addmm_(maps, weight)

    def finish(self, total: Tensor) -> Tensor:
        """Map the total -> (rows, out), behind the Hardswish; fresh or the total itself."""
        total = torch.addmm(self.bias, total, self.weight) if self.summed else total
        return functional.hardswish(total, inplace=True)

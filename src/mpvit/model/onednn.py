"""oneDNN's operations, which torch's own compiler calls too: weights packed once, and what follows a product done with it.

On a CPU they beat torch's calls of MKL and save passes over memory: an activation, a residual, a product with another map.
They take float32, and bfloat16 where the processor multiplies in it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

# ruff: noqa: SLF001 - the operations' names begin with an underscore
import torch
from torch import Tensor

Activation = Literal["none", "gelu", "hardswish"]

_SETTINGS: dict[Activation, tuple[list[float], str]] = {
    "none": ([], ""),
    "gelu": ([], "none"),  # the exact one, by erf
    "hardswish": ([], ""),
}

_OPS: Any = torch.ops.mkldnn


def takes(x: Tensor) -> bool:
    """Whether these operations are there for ``x``."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if x.dtype == torch.bfloat16:
        return bool(_OPS._is_mkldnn_bf16_supported())
    return x.dtype == torch.float32


def linear(weight: Tensor, bias: Tensor | None, activation: Activation) -> Callable[[Tensor], Tensor]:
    """Return the layer of ``weight`` (out, in) as a function (rows, in) -> (rows, out), fresh."""
    run, packed, settings = _OPS._linear_pointwise.default, _pack_linear(weight), (activation, *_SETTINGS[activation])
    return lambda x: run(x, packed, bias, *settings)


def linear_plus(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the layer as a function of (rows, in) and of (rows, out), which it adds."""
    run, packed = _OPS._linear_pointwise.binary, _pack_linear(weight)
    return lambda x, other: run(x, other, packed, bias, "add")


def convolution(
    weight: Tensor, bias: Tensor | None, stride: int, groups: int, activation: Activation, shape: Sequence[int]
) -> Callable[[Tensor], Tensor]:
    """Return the convolution, padded to "same", as a function of channels-last maps, at its best for ``shape``."""
    run, settings = _OPS._convolution_pointwise.default, (activation, *_SETTINGS[activation])
    axes = _axes(weight, stride)
    packed = _OPS._reorder_convolution_weight(weight, *axes, groups, list(shape))
    return lambda x: run(x, packed, bias, *axes, groups, *settings)


def convolution_times(
    weight: Tensor, bias: Tensor | None, groups: int, shape: Sequence[int]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return ``convolution`` at stride 1 as a function of a map and of another, of the result's shape, to multiply by."""
    run, axes = _OPS._convolution_pointwise.binary, _axes(weight, 1)
    packed = _OPS._reorder_convolution_weight(weight, *axes, groups, list(shape))
    return lambda x, other: run(x, other, packed, bias, *axes, groups, "mul", None, None, [], None)


def _pack_linear(weight: Tensor) -> Tensor:
    return _OPS._reorder_linear_weight(weight.contiguous())


def _axes(weight: Tensor, stride: int) -> tuple[list[int], list[int], list[int]]:
    """Return padding, stride and dilation of both axes."""
    return [weight.shape[-1] // 2] * 2, [stride] * 2, [1, 1]

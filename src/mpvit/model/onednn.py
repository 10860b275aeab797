"""oneDNN's operators, which torch's compiler uses too: weights are packed once, and a following operation is fused.

On a CPU they are faster than torch's calls of MKL, and save passes over memory for an activation, a residual or a product with
another map. They take float32, and bfloat16 if the processor multiplies in it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

# ruff: noqa: SLF001 - the operators' names begin with an underscore
import torch
from torch import Tensor

Activation = Literal["none", "gelu", "hardswish"]

_SETTINGS: dict[Activation, tuple[list[float], str]] = {
    "none": ([], ""),
    "gelu": ([], "none"),  # the exact one, by erf
    "hardswish": ([], ""),
}

_OPS: Any = torch.ops.mkldnn


def supports(x: Tensor) -> bool:
    """Return whether the operators take ``x``."""
    if x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if x.dtype == torch.bfloat16:
        return bool(_OPS._is_mkldnn_bf16_supported())
    return x.dtype == torch.float32


def linear(weight: Tensor, bias: Tensor | None, activation: Activation) -> Callable[[Tensor], Tensor]:
    """Return the layer of ``weight`` (out, in) as a function (rows, in) -> (rows, out); its output is a new tensor."""
    run, packed, settings = _OPS._linear_pointwise.default, _pack_linear(weight), (activation, *_SETTINGS[activation])
    return lambda x: run(x, packed, bias, *settings)


def linear_plus(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the layer as a function of (rows, in) and a second input (rows, out), which is added."""
    run, packed = _OPS._linear_pointwise.binary, _pack_linear(weight)
    return lambda x, other: run(x, other, packed, bias, "add")


def convolution(
    weight: Tensor, bias: Tensor | None, stride: int, groups: int, activation: Activation, shape: Sequence[int]
) -> Callable[[Tensor], Tensor]:
    """Return the convolution, padded to "same", as a function of channels-last maps, optimised for inputs of ``shape``."""
    run, settings = _OPS._convolution_pointwise.default, (activation, *_SETTINGS[activation])
    axes = _axes(weight, stride)
    packed = _OPS._reorder_convolution_weight(weight, *axes, groups, list(shape))
    return lambda x: run(x, packed, bias, *axes, groups, *settings)


def convolution_times(
    weight: Tensor, bias: Tensor | None, groups: int, shape: Sequence[int]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return ``convolution`` at stride 1 as a function of a map and a second map, by which the result is multiplied."""
    run, axes = _OPS._convolution_pointwise.binary, _axes(weight, 1)
    packed = _OPS._reorder_convolution_weight(weight, *axes, groups, list(shape))
    return lambda x, other: run(x, other, packed, bias, *axes, groups, "mul", None, None, [], None)


def _pack_linear(weight: Tensor) -> Tensor:
    return _OPS._reorder_linear_weight(weight.contiguous())


def _axes(weight: Tensor, stride: int) -> tuple[list[int], list[int], list[int]]:
    """Return padding, stride and dilation of both axes."""
    return [weight.shape[-1] // 2] * 2, [stride] * 2, [1, 1]

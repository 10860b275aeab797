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


def linear(weight: Tensor, bias: Tensor | None, activation: Activation, *, plus: bool) -> Callable[..., Tensor]:
    """Return the layer of ``weight`` (out, in) as a function (rows, in) -> (rows, out).

    With ``plus`` it has no activation, and takes a second input, (rows, out), that it adds.
    """
    packed = _OPS._reorder_linear_weight(weight.contiguous())
    if plus:
        binary = _OPS._linear_pointwise.binary
        return lambda x, other: binary(x, other, packed, bias, "add")
    run, settings = _OPS._linear_pointwise.default, (activation, *_SETTINGS[activation])
    return lambda x: run(x, packed, bias, *settings)


def convolution(
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    groups: int,
    activation: Activation,
    shape: Sequence[int],
    *,
    times: bool,
) -> Callable[..., Tensor]:
    """Return the convolution, padded to "same", as a function of channels-last maps, optimised for inputs of ``shape``.

    With ``times`` it has no activation, and takes a second map by which it multiplies the result.
    """
    axes = [weight.shape[-1] // 2] * 2, [stride] * 2, [1, 1]  # padding, stride and dilation
    packed = _OPS._reorder_convolution_weight(weight, *axes, groups, list(shape))
    if times:
        binary = _OPS._convolution_pointwise.binary
        return lambda x, other: binary(x, other, packed, bias, *axes, groups, "mul", None, None, [], None)
    run, settings = _OPS._convolution_pointwise.default, (activation, *_SETTINGS[activation])
    return lambda x: run(x, packed, bias, *axes, groups, *settings)

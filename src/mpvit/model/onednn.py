"""oneDNN's operations, which torch's own compiler calls too: weights packed once, and what follows a product done with it.

On a CPU they beat torch's calls of MKL and save passes over memory: an activation, a residual, a product with another map.
They take float32, and bfloat16 where the processor multiplies in it.
"""

from collections.abc import Sequence
from typing import Any

# ruff: noqa: SLF001 - the operations' names begin with an underscore
import torch
from torch import Tensor

_ACTIVATIONS: dict[str, tuple[str, list[float], str]] = {
    "": ("none", [], ""),
    "gelu": ("gelu", [], "none"),  # the exact one, by erf
    "hardswish": ("hardswish", [], ""),
}


_OPS: Any = torch.ops.mkldnn


def takes(x: Tensor) -> bool:
    """Whether these operations are there for ``x``, and it is run now, not put into a graph."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not torch.backends.mkldnn.is_available():
        return False
    if x.dtype == torch.bfloat16:
        return bool(_OPS._is_mkldnn_bf16_supported())
    return x.dtype == torch.float32


def pack_linear(weight: Tensor) -> Tensor:
    """Return ``weight`` (out, in) as ``linear`` takes it."""
    return _OPS._reorder_linear_weight(weight.contiguous())


def pack_convolution(weight: Tensor, stride: int, groups: int, shape: Sequence[int]) -> Tensor:
    """Return ``weight`` as ``convolve`` takes it; ``shape`` is that of inputs it suits best."""
    axes = [weight.shape[-1] // 2] * 2, [stride] * 2, [1, 1]
    return _OPS._reorder_convolution_weight(weight, *axes, groups, list(shape))


def linear(x: Tensor, packed: Tensor, bias: Tensor, activation: str = "") -> Tensor:
    """Map (rows, in) -> (rows, out), fresh; ``activation`` is "", "gelu" or "hardswish"."""
    return _OPS._linear_pointwise(x, packed, bias, *_ACTIVATIONS[activation])


def linear_plus(x: Tensor, packed: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """Map (rows, in) -> (rows, out), fresh, with ``other`` (rows, out) added."""
    return _OPS._linear_pointwise.binary(x, other, packed, bias, "add")


def convolve(x: Tensor, packed: Tensor, bias: Tensor, stride: int, groups: int, window: int, *, act: bool) -> Tensor:
    """Convolve (b, c, h, w), channels-last, padded to "same"; ``window`` is odd, a Hardswish follows where ``act`` is on."""
    axes = [window // 2] * 2, [stride] * 2, [1, 1]
    after = _ACTIVATIONS["hardswish" if act else ""]
    return _OPS._convolution_pointwise(x, packed, bias, *axes, groups, *after)


def convolve_times(x: Tensor, packed: Tensor, bias: Tensor, groups: int, window: int, other: Tensor) -> Tensor:
    """Convolve at stride 1 as ``convolve`` does, and multiply by ``other``, which has the shape of the result."""
    call = _OPS._convolution_pointwise.binary
    axes = [window // 2] * 2, [1, 1], [1, 1]
    return call(x, other, packed, bias, *axes, groups, "mul", None, None, [], None)

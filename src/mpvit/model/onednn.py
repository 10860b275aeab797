"""oneDNN's operations, which torch's own compiler calls too: weights packed once, and what follows a product done with it.

On a CPU they beat torch's calls of MKL and save passes over memory: an activation, a residual, a product with another map.
They take float32, and bfloat16 where the processor multiplies in it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

_ACTIVATIONS: dict[str, tuple[str, list[float], str]] = {
    "": ("none", [], ""),
    "gelu": ("gelu", [], "none"),  # the exact one, by erf
    "hardswish": ("hardswish", [], ""),
}


def takes(x: Tensor) -> bool:
    """Whether these operations are there for ``x``, and it is run now, not put into a graph."""
    if x.device.type != "cpu" or torch.compiler.is_compiling() or not torch.backends.mkldnn.is_available():
        return False
    if x.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - the operations' namespace, here and below
    return x.dtype == torch.float32


def pack_linear(weight: Tensor) -> Tensor:
    """Return ``weight`` (out, in) as ``linear`` takes it."""
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous())  # type: ignore[no-any-return] # noqa: SLF001


def pack_convolution(weight: Tensor, stride: int, groups: int, shape: Sequence[int]) -> Tensor:
    """Return ``weight`` as ``convolve`` takes it; ``shape`` is that of inputs it suits best."""
    axes = [weight.shape[-1] // 2] * 2, [stride] * 2, [1, 1]
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *axes, groups, list(shape))  # type: ignore[no-any-return] # noqa: SLF001


def linear(x: Tensor, packed: Tensor, bias: Tensor, activation: str = "") -> Tensor:
    """Map (rows, in) -> (rows, out), fresh; ``activation`` is "", "gelu" or "hardswish"."""
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, *_ACTIVATIONS[activation])  # type: ignore[no-any-return] # noqa: SLF001


def linear_plus(x: Tensor, packed: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
    """Map (rows, in) -> (rows, out), fresh, with ``other`` (rows, out) added."""
    return torch.ops.mkldnn._linear_pointwise.binary(x, other, packed, bias, "add")  # type: ignore[no-any-return] # noqa: SLF001


def convolve(x: Tensor, packed: Tensor, bias: Tensor, stride: int, groups: int, window: int, *, act: bool) -> Tensor:
    """Convolve (b, c, h, w), channels-last, padded to "same"; ``window`` is odd, a Hardswish follows where ``act`` is on."""
    axes = [window // 2] * 2, [stride] * 2, [1, 1]
    after = _ACTIVATIONS["hardswish" if act else ""]
    return torch.ops.mkldnn._convolution_pointwise(x, packed, bias, *axes, groups, *after)  # type: ignore[no-any-return] # noqa: SLF001


def convolve_times(x: Tensor, packed: Tensor, bias: Tensor, groups: int, window: int, other: Tensor) -> Tensor:
    """Convolve at stride 1 as ``convolve`` does, and multiply by ``other``, which has the shape of the result."""
    call = torch.ops.mkldnn._convolution_pointwise.binary  # noqa: SLF001
    axes = [window // 2] * 2, [1, 1], [1, 1]
    return call(x, other, packed, bias, *axes, groups, "mul", None, None, [], None)  # type: ignore[no-any-return]

"""What the CPU makes of a call of which the meta device makes something else: kernels are the CPU's, where tools run."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.nn.attention import SDPBackend
from torch.utils._pytree import tree_map_only

from mpvit.trace import FUSED_ATTENTION, FUSED_LSTM, Kernel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")

_BATCHED = 3
"""Axes of a recurrent layer's inputs, as its function takes them; of packed sequences they have two."""


def on_the_cpu(
    operator: str, args: Sequence[Any], kwargs: Mapping[str, Any], kernels: tuple[Kernel, ...]
) -> tuple[Kernel, ...]:
    """Return the kernels of a call as the CPU has them; ``kernels`` are those seen, wherever it was run."""
    macs = sum(kernel.macs for kernel in kernels)
    if operator == FUSED_ATTENTION:
        return (Kernel(FUSED_ATTENTION, macs),) if _is_fused(args, kwargs) else kernels
    if operator in _RECURRENT and not kwargs and args[0].is_meta and args[0].dim() == _BATCHED:
        return (Kernel(FUSED_LSTM, macs),) if operator == "lstm" and _is_one_kernel(args) else _without_biases(args, kernels)
    return kernels


def as_laid_out(out: Tensor, args: Sequence[Any]) -> Tensor:
    """Return a convolution's result as the CPU lays it out: of two axes, channels last where its data or weight are.

    A linear layer behind it goes by that: it adds its bias in the product where its inputs lie side by side.
    """
    last = any(suggest_memory_format(each) is torch.channels_last for each in args[:2])
    return out.contiguous(memory_format=torch.channels_last) if last else out


def _is_fused(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether the CPU has one kernel for this call of fused attention, or takes it apart as others do."""
    args, kwargs = tree_map_only(Tensor, _moved, (tuple(args), dict(kwargs)))
    return bool(torch._fused_sdp_choice(*args, **kwargs) != SDPBackend.MATH.value)  # noqa: SLF001 - no public name


def _moved(tensor: Tensor) -> Tensor:
    """Return a tensor of the same layout on the CPU, whose memory nobody touches."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def _is_one_kernel(args: Sequence[Any]) -> bool:
    """Tell whether the CPU has one kernel for an LSTM: in float32, where the hidden state is not projected."""
    data, (hidden, cell) = args[:2]
    return torch.backends.mkldnn.is_available() and data.dtype is torch.float32 and hidden.shape[-1] == cell.shape[-1]


def _without_biases(args: Sequence[Any], kernels: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    """Return the kernels without the input biases of the first layer, where the CPU adds these by themselves.

    It multiplies the inputs of all steps at once, in one product that can add no bias where they do not lie side by side.
    """
    data, _, weights, biased, _, _, _, bidirectional, batch_first = args
    if not biased or (data.transpose(0, 1) if batch_first else data).is_contiguous():
        return kernels
    lost = prod(data.shape[:2]) * weights[0].shape[0] * (2 if bidirectional else 1)
    return tuple(each._replace(biases=each.biases - lost) if each.biases else each for each in kernels)

"""Full softmax attention in torch's fused kernel, whose flash variants never store the N x N matrix.

Source: Dao et al., "FlashAttention", NeurIPS 2022 (arXiv:2205.14135), algorithm 1. The result is that of ``softmax``.
Most counters do not count the fused kernel on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return softmax(q·kᵀ / √d)·v; three (B, h, N, d) -> (B, h, N, d)."""
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(query, key, value)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N²·C multiply-adds in one operation."""
    return tape.attention("attend", query, key, value)


KIND = Kind(
    label="sdpa (fused)",
    formula="2·N²·C",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: sizes.heads * sizes.tokens,  # a log-sum-exp for each row
)

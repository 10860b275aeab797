"""Full softmax attention in torch's fused kernel, which never stores the N x N matrix where a flash kernel exists.

Source: Dao et al., "FlashAttention", NeurIPS 2022 (arXiv:2205.14135), algorithm 1; the result is that of ``softmax``.
Most counters pass the fused kernel over on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.tape import Tape
    from mpvit.operations.tensor_spec import TensorSpec


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return softmax(q·kᵀ / √d)·v; (B, h, N, d) three times -> (B, h, N, d)."""
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(query, key, value)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N²·C multiply-adds in one operation."""
    return tape.attention("attend", query, key, value)


def row_sums(sizes: Sizes) -> int:
    """Return h·N, the log-sum-exp of each row, which the kernel saves."""
    return sizes.heads * sizes.tokens


KIND = Kind(
    label="sdpa (fused)",
    formula="2·N²·C",
    attend=attend,
    record=record,
    extra_elements=row_sums,
)

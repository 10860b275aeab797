"""Full softmax attention in torch's fused kernel, which never stores the N x N matrix where a flash kernel exists.

Source: Dao et al., "FlashAttention", NeurIPS 2022 (arXiv:2205.14135), algorithm 1; the result is that of ``softmax``.
Most counters pass the fused kernel over on the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, softmax
from mpvit.operations import Block, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, learned: Mapping[str, Tensor]) -> Tensor:
    """Return softmax(q·kᵀ / √d)·v; (B, h, N, d) three times -> (B, h, N, d)."""
    from torch.nn.functional import scaled_dot_product_attention

    return scaled_dot_product_attention(query, key, value)


def cost(sizes: Sizes) -> Block:
    """Return the one operation: 2·N²·C multiply-adds."""
    per_head = sizes.per_head
    macs = 2 * sizes.batch * sizes.tokens**2 * sizes.dim
    return Block({"attend": Operation("sdpa", per_head, per_head, macs=macs, others=(per_head, per_head))})


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    return tape.attention(query, key, value)


def row_sums(sizes: Sizes) -> int:
    """Return h·N: the kernel keeps one log-sum-exp a row."""
    return sizes.heads * sizes.tokens


KIND = Kind(
    label="sdpa (fused)",
    formula="2·N²·C",
    attend=attend,
    cost=cost,
    record=record,
    exponentials=softmax.pairs,
    extra_elements=row_sums,
)

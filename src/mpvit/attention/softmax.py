"""Full softmax attention: every token looks at every token, through an N x N matrix.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017 (arXiv:1706.03762), equation 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes
from mpvit.operations import Block, einsum, elementwise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, learned: Mapping[str, Tensor]) -> Tensor:
    """Return softmax(q·kᵀ / √d)·v; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch

    scores = torch.einsum("bhqd,bhkd->bhqk", sizes.head_dim**-0.5 * query, key)  # (B, h, N, N)
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), value)


def cost(sizes: Sizes) -> Block:
    """Return the operations: 2·N²·C multiply-adds."""
    scores = (sizes.batch, sizes.heads, sizes.tokens, sizes.tokens)
    return Block(
        {
            "scale": elementwise("mul", sizes.per_head),
            "scores": einsum("bhqd,bhkd->bhqk", sizes.per_head, sizes.per_head),
            "softmax": elementwise("softmax", scores),
            "attended": einsum("bhqk,bhkd->bhqd", scores, sizes.per_head),
        }
    )


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    scores = tape.einsum("bhqd,bhkd->bhqk", tape.add(query), key)
    return tape.einsum("bhqk,bhkd->bhqd", tape.softmax(scores), value)


def pairs(sizes: Sizes) -> int:
    """Return h·N²: the elements of the attention matrices, each the exponential of a score."""
    return sizes.heads * sizes.tokens**2


KIND = Kind(
    label="softmax (full)", formula="2·N²·C", attend=attend, cost=cost, record=record, exponentials=pairs, extra_elements=pairs
)

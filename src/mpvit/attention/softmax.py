"""Full softmax attention: every token attends to every token through an N x N matrix.

Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017 (arXiv:1706.03762), equation 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return softmax(q·kᵀ / √d)·v; three (B, h, N, d) -> (B, h, N, d)."""
    import torch

    scores = torch.einsum("bhqd,bhkd->bhqk", sizes.head_dim**-0.5 * query, key)  # (B, h, N, N)
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), value)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N²·C multiply-adds."""
    scores = tape.einsum("scores", "bhqd,bhkd->bhqk", tape.elementwise("scale", "mul", query), key)
    return tape.einsum("attended", "bhqk,bhkd->bhqd", tape.softmax("softmax", scores), value)


KIND = Kind(
    label="softmax (full)",
    formula="2·N²·C",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: sizes.heads * sizes.tokens**2,
)

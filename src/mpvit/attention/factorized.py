"""Factorized attention, MPViT's own: the cost is linear in the number of tokens, and no N x N matrix is ever formed.

Source: Xu et al., "Co-Scale Conv-Attentional Image Transformers", ICCV 2021 (arXiv:2104.06399), equation 4. It is no
approximation of softmax attention: its implied map has rank at most d, signed entries, and rows that do not sum to 1.
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
    """Return q·(softmax over tokens of k)ᵀ·v / √d; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch

    context = torch.einsum("bhnk,bhnv->bhkv", key.softmax(dim=-2), value)  # (B, h, d, d)
    return sizes.head_dim**-0.5 * torch.einsum("bhnk,bhkv->bhnv", query, context)


def cost(sizes: Sizes) -> Block:
    """Return the operations: 2·N·C·d multiply-adds."""
    return Block(
        {
            "softmax": elementwise("softmax", sizes.per_head),
            "context": einsum("bhnk,bhnv->bhkv", sizes.per_head, sizes.per_head),
            "attended": einsum("bhnk,bhkv->bhnv", sizes.per_head, contexts(sizes)),
            "scale": elementwise("mul", sizes.per_head),
        }
    )


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    context = tape.einsum("bhnk,bhnv->bhkv", tape.softmax(key), value)
    return tape.add(tape.einsum("bhnk,bhkv->bhnv", query, context))


def contexts(sizes: Sizes) -> tuple[int, int, int, int]:
    """Return the shape of the products kᵀ·v: (B, h, d, d)."""
    return (sizes.batch, sizes.heads, sizes.head_dim, sizes.head_dim)


def context_elements(sizes: Sizes) -> int:
    """Return h·d²."""
    return sizes.heads * sizes.head_dim**2


KIND = Kind(
    label="factorized",
    formula="2·N·C·d",
    attend=attend,
    cost=cost,
    record=record,
    exponentials=lambda sizes: sizes.tokens * sizes.dim,
    extra_elements=context_elements,
)

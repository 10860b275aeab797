"""Efficient attention: queries softmaxed over channels, keys over tokens, so that its implied rows sum to 1.

Source: Shen et al., "Efficient Attention: Attention with Linear Complexities", WACV 2021 (arXiv:1812.01243), equation 4
with softmax normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, factorized
from mpvit.operations import Block, einsum, elementwise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, learned: Mapping[str, Tensor]) -> Tensor:
    """Return (softmax over channels of q)·(softmax over tokens of k)ᵀ·v; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch

    context = torch.einsum("bhnk,bhnv->bhkv", key.softmax(dim=-2), value)  # (B, h, d, d)
    return torch.einsum("bhnk,bhkv->bhnv", query.softmax(dim=-1), context)


def cost(sizes: Sizes) -> Block:
    """Return the operations: 2·N·C·d multiply-adds."""
    return Block(
        {
            "key_softmax": elementwise("softmax", sizes.per_head),
            "context": einsum("bhnk,bhnv->bhkv", sizes.per_head, sizes.per_head),
            "query_softmax": elementwise("softmax", sizes.per_head),
            "attended": einsum("bhnk,bhkv->bhnv", sizes.per_head, factorized.contexts(sizes)),
        }
    )


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    context = tape.einsum("bhnk,bhnv->bhkv", tape.softmax(key), value)
    return tape.einsum("bhnk,bhkv->bhnv", tape.softmax(query), context)


KIND = Kind(
    label="efficient",
    formula="2·N·C·d",
    attend=attend,
    cost=cost,
    record=record,
    exponentials=lambda sizes: 2 * sizes.tokens * sizes.dim,
    extra_elements=factorized.context_elements,
)

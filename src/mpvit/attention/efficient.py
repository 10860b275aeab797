"""Efficient attention: softmax of the queries over channels and of the keys over tokens.

Source: Shen et al., "Efficient Attention: Attention with Linear Complexities", WACV 2021 (arXiv:1812.01243), equation 4
with softmax normalisation. The rows of its implied map sum to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec, factorized

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return (softmax over channels of q)·(softmax over tokens of k)ᵀ·v; three (B, h, N, d) -> (B, h, N, d)."""
    import torch

    context = torch.einsum("bhnk,bhnv->bhkv", key.softmax(dim=-2), value)  # (B, h, d, d)
    return torch.einsum("bhnk,bhkv->bhnv", query.softmax(dim=-1), context)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·C·d multiply-adds."""
    context = tape.einsum("context", "bhnk,bhnv->bhkv", tape.softmax("key_softmax", key), value)
    return tape.einsum("attended", "bhnk,bhkv->bhnv", tape.softmax("query_softmax", query), context)


KIND = Kind(label="efficient", formula="2·N·C·d", attend=attend, record=record, extra_elements=factorized.context_elements)

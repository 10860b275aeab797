"""Efficient attention: queries softmaxed over channels, keys over tokens, so that its implied rows sum to 1.

Source: Shen et al., "Efficient Attention: Attention with Linear Complexities", WACV 2021 (arXiv:1812.01243), equation 4
with softmax normalisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, factorized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.tape import Tape
    from mpvit.operations.tensor_spec import TensorSpec


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return (softmax over channels of q)·(softmax over tokens of k)ᵀ·v; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch

    context = torch.einsum("bhnk,bhnv->bhkv", key.softmax(dim=-2), value)  # (B, h, d, d)
    return torch.einsum("bhnk,bhkv->bhnv", query.softmax(dim=-1), context)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·C·d multiply-adds."""
    context = tape.einsum("context", "bhnk,bhnv->bhkv", tape.softmax("key_softmax", key), value)
    return tape.einsum("attended", "bhnk,bhkv->bhnv", tape.softmax("query_softmax", query), context)


KIND = Kind(
    label="efficient",
    formula="2·N·C·d",
    attend=attend,
    record=record,
    extra_elements=factorized.context_elements,
)

"""Factorized attention, which MPViT uses: its cost is linear in the number of tokens, without any N x N matrix.

Source: Xu et al., "Co-Scale Conv-Attentional Image Transformers", ICCV 2021 (arXiv:2104.06399), equation 4. It does not
approximate softmax attention: its implied map has rank at most d, signed entries, and rows that do not sum to 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return q·(softmax over tokens of k)ᵀ·v / √d; three (B, h, N, d) -> (B, h, N, d)."""
    import torch

    context = torch.einsum("bhnk,bhnv->bhkv", key.softmax(dim=-2), value)  # (B, h, d, d)
    return sizes.head_dim**-0.5 * torch.einsum("bhnk,bhkv->bhnv", query, context)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·C·d multiply-adds."""
    context = tape.einsum("context", "bhnk,bhnv->bhkv", tape.softmax("softmax", key), value)
    return tape.elementwise("scale", "mul", tape.einsum("attended", "bhnk,bhkv->bhnv", query, context))


def context_elements(sizes: Sizes) -> int:
    """Return h·d², the elements of kᵀ·v."""
    return sizes.heads * sizes.head_dim**2


KIND = Kind(label="factorized", formula="2·N·C·d", attend=attend, record=record, extra_elements=context_elements)

"""Factorized attention: the cost is linear in the number of tokens.

Source: Xu et al., "Co-Scale Conv-Attentional Image Transformers", ICCV 2021 (arXiv:2104.06399), equation 4, without its
scale, which the layer applies; MPViT uses it unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.operations import Block, elementwise, matmul

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return q · (softmax over tokens of k)ᵀ · v; (B, h, N, d) three times -> (B, h, N, d). No N x N matrix is formed."""
    import torch

    context = torch.einsum("bhnk,bhnv->bhkv", key.softmax(dim=-2), value)  # (B, h, d, d)
    return torch.einsum("bhnk,bhkv->bhnv", query, context)


def cost(batch: int, heads: int, tokens: int, head_dim: int) -> Block:
    """Return the operations of ``attend``: 2·N·C·d multiply-adds and N·C exponentials for each image."""
    per_head = (batch, heads, tokens, head_dim)
    context = (batch, heads, head_dim, head_dim)
    return Block(
        {
            "softmax": elementwise("softmax", per_head),
            "context": matmul(per_head, context, tokens),
            "attended": matmul(per_head, per_head, head_dim),
        }
    )

"""Hydra attention: linear attention with as many heads as channels, so that channels are never mixed.

Source: Bolya et al., "Hydra Attention: Efficient Attention with Many Heads", ECCV Workshops 2022 (arXiv:2209.07484),
equation 9 with the cosine feature map. The l2 norms over channels take another 2·N·C elementwise multiplications.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return q̂ ∘ Σₙ k̂ ∘ v, where q̂ and k̂ have norm 1 over all C channels; three (B, h, N, d) -> (B, h, N, d)."""
    import torch
    from einops import rearrange
    from torch.nn.functional import normalize

    query, key, value = (rearrange(x, "b heads n d -> b n (heads d)") for x in (query, key, value))  # (B, N, C)
    query, key, value = (
        rearrange(x, "b n (c one) -> b c n one", one=1) for x in (normalize(query, dim=-1), normalize(key, dim=-1), value)
    )
    context = torch.einsum("bcnk,bcnv->bckv", key, value)  # (B, C, 1, 1)
    attended = torch.einsum("bcnk,bckv->bcnv", query, context)  # (B, C, N, 1)
    return rearrange(attended, "b (heads d) n one -> b heads n (d one)", heads=sizes.heads)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·C multiply-adds."""
    query, key, value = (x.rearrange("b heads n d -> b n (heads d)") for x in (query, key, value))
    query, key = tape.normalize("query_norm", query, -1), tape.normalize("key_norm", key, -1)
    query, key, value = (x.rearrange("b n (c one) -> b c n one", one=1) for x in (query, key, value))
    context = tape.einsum("context", "bcnk,bcnv->bckv", key, value)
    attended = tape.einsum("attended", "bcnk,bckv->bcnv", query, context)
    return attended.rearrange("b (heads d) n one -> b heads n (d one)", heads=sizes.heads)


KIND = Kind(label="hydra (h = C)", formula="2·N·C", attend=attend, record=record, extra_elements=lambda sizes: sizes.dim)

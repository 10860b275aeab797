"""Linear attention with the feature map elu + 1; each row is divided by its sum.

Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020 (arXiv:2006.16236), equations 5 to 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec, factorized

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return φ(q)·φ(k)ᵀ·v divided by the row sums, φ = elu + 1; three (B, h, N, d) -> (B, h, N, d)."""
    import torch
    from torch.nn.functional import elu

    query, key = elu(query) + 1, elu(key) + 1
    context = torch.einsum("bhnk,bhnv->bhkv", key, value)  # (B, h, d, d)
    sums = torch.einsum("bhnk,bhk->bhn", query, key.sum(dim=-2))  # (B, h, N)
    return torch.einsum("bhnk,bhkv->bhnv", query, context) / sums.unsqueeze(-1)


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·C·d multiply-adds, and N·C for the row sums."""
    query = tape.elementwise("query_add", "add", tape.elementwise("query_elu", "elu", query))
    key = tape.elementwise("key_add", "add", tape.elementwise("key_elu", "elu", key))
    return record_normalised(tape, query, key, value)


def record_normalised(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec) -> TensorSpec:
    """Record q·kᵀ·v divided by its row sums."""
    context = tape.einsum("context", "bhnk,bhnv->bhkv", key, value)
    key_sum = tape.reduction("key_sum", "sum", key, -2, keepdim=False)
    sums = tape.einsum("row_sums", "bhnk,bhk->bhn", query, key_sum)
    attended = tape.einsum("attended", "bhnk,bhkv->bhnv", query, context)
    return tape.elementwise("divide", "div", attended, sums.reshape((*sums.shape, 1)))


KIND = Kind(
    label="linear (elu + 1)",
    formula="2·N·C·d + N·C",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: factorized.context_elements(sizes) + sizes.dim,
)

"""Cross-covariance attention: channels attend to channels, through a d x d matrix.

Source: El-Nouby et al., "XCiT: Cross-Covariance Image Transformers", NeurIPS 2021 (arXiv:2106.09681), equation 2.
The l2 norms over tokens take another 2·N·C multiplications. They are elementwise and are not counted as multiply-adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec, factorized
from mpvit.operations.tensor_spec import parameter

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return v·softmax(τ·k̂ᵀ·q̂), where k̂ and q̂ have norm 1 over the tokens; three (B, h, N, d) -> (B, h, N, d)."""
    import torch
    from torch.nn.functional import normalize

    query, key = normalize(query, dim=-2), normalize(key, dim=-2)
    covariance = torch.einsum("bhnk,bhnq->bhqk", key, query)  # (B, h, d, d): row q over channels k
    attention = (covariance * tensors["temperature"]).softmax(dim=-1)
    return torch.einsum("bhnk,bhqk->bhnq", value, attention)


def parameters(sizes: Sizes) -> dict[str, Tensor]:
    """Return τ, a temperature for each head (h, 1, 1), initially 1."""
    import torch

    return {"temperature": torch.ones(sizes.heads, 1, 1)}


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·C·d multiply-adds."""
    query, key = tape.normalize("query_norm", query, -2), tape.normalize("key_norm", key, -2)
    covariance = tape.einsum("covariance", "bhnk,bhnq->bhqk", key, query)
    temperature = parameter("temperature", sizes.heads, 1, 1).reshape((1, sizes.heads, 1, 1))
    attention = tape.softmax("softmax", tape.elementwise("temperature", "mul", covariance, temperature))
    return tape.einsum("attended", "bhnk,bhqk->bhnq", value, attention)


KIND = Kind(
    label="cross-covariance",
    formula="2·N·C·d",
    attend=attend,
    record=record,
    extra_elements=factorized.context_elements,
    parameters=parameters,
)

"""Cross-covariance attention: channels attend to channels, through a d x d matrix.

Source: El-Nouby et al., "XCiT: Cross-Covariance Image Transformers", NeurIPS 2021 (arXiv:2106.09681), equation 2.
The l2 norms over tokens take another 2·N·C multiplications, which are elementwise and not counted as multiply-adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, factorized
from mpvit.operations.tensor_spec import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.tape import Tape
    from mpvit.operations.tensor_spec import TensorSpec


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return v·softmax(τ·k̂ᵀ·q̂), k̂ and q̂ of norm 1 over tokens; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch
    from torch.nn.functional import normalize

    query, key = normalize(query, dim=-2), normalize(key, dim=-2)
    covariance = torch.einsum("bhnk,bhnq->bhqk", key, query)  # (B, h, d, d): row q over channels k
    attention = (covariance * tensors["temperature"]).softmax(dim=-1)
    return torch.einsum("bhnk,bhqk->bhnq", value, attention)


def parameters(sizes: Sizes) -> dict[str, Tensor]:
    """Return τ, one temperature a head (h, 1, 1), at first 1."""
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

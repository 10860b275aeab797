"""Cross-covariance attention: channels attend to channels, through a d x d matrix.

Source: El-Nouby et al., "XCiT: Cross-Covariance Image Transformers", NeurIPS 2021 (arXiv:2106.09681), equation 2.
The l2 norms over tokens take another 2·N·C multiplications, which are elementwise and not counted as multiply-adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, factorized
from mpvit.operations import Block, einsum, elementwise
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, learned: Mapping[str, Tensor]) -> Tensor:
    """Return v·softmax(τ·k̂ᵀ·q̂), k̂ and q̂ of norm 1 over tokens; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch
    from torch.nn.functional import normalize

    query, key = normalize(query, dim=-2), normalize(key, dim=-2)
    covariance = torch.einsum("bhnk,bhnq->bhqk", key, query)  # (B, h, d, d): row q over channels k
    attention = (covariance * learned["temperature"]).softmax(dim=-1)
    return torch.einsum("bhnk,bhqk->bhnq", value, attention)


def learned(sizes: Sizes) -> dict[str, Tensor]:
    """Return τ, one temperature a head (h, 1, 1), at first 1."""
    import torch

    return {"temperature": torch.ones(sizes.heads, 1, 1)}


def cost(sizes: Sizes) -> Block:
    """Return the operations: 2·N·C·d multiply-adds."""
    contexts = factorized.contexts(sizes)
    temperature = ((sizes.heads, 1, 1),)
    scale = elementwise("mul", contexts)._replace(params=sizes.heads, weights=temperature, weight_names=("temperature",))
    return Block(
        {
            "query_norm": elementwise("normalize", sizes.per_head),
            "key_norm": elementwise("normalize", sizes.per_head),
            "covariance": einsum("bhnk,bhnq->bhqk", sizes.per_head, sizes.per_head),
            "temperature": scale,
            "softmax": elementwise("softmax", contexts),
            "attended": einsum("bhnk,bhqk->bhnq", sizes.per_head, contexts),
        }
    )


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    query, key = tape.normalize(query, -2), tape.normalize(key, -2)
    covariance = tape.einsum("bhnk,bhnq->bhqk", key, query)
    attention = tape.softmax(tape.mul(parameter(1, sizes.heads, 1, 1), covariance))
    return tape.einsum("bhnk,bhqk->bhnq", value, attention)


KIND = Kind(
    label="cross-covariance",
    formula="2·N·C·d",
    attend=attend,
    cost=cost,
    record=record,
    exponentials=factorized.context_elements,
    extra_elements=factorized.context_elements,
    learned=learned,
)

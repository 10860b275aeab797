"""Linear attention with the feature map elu + 1, each row divided by its sum.

Source: Katharopoulos et al., "Transformers are RNNs", ICML 2020 (arXiv:2006.16236), equations 5 to 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, factorized
from mpvit.operations import Block, einsum, elementwise, reduction

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, learned: Mapping[str, Tensor]) -> Tensor:
    """Return φ(q)·φ(k)ᵀ·v over its rows' sums, φ = elu + 1; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch
    from torch.nn.functional import elu

    query, key = elu(query) + 1, elu(key) + 1
    context = torch.einsum("bhnk,bhnv->bhkv", key, value)  # (B, h, d, d)
    sums = torch.einsum("bhnk,bhk->bhn", query, key.sum(dim=-2))  # (B, h, N)
    return torch.einsum("bhnk,bhkv->bhnv", query, context) / sums.unsqueeze(-1)


def cost(sizes: Sizes) -> Block:
    """Return the operations: 2·N·C·d multiply-adds, and N·C for the rows' sums."""
    per_head = sizes.per_head
    key_sum = (sizes.batch, sizes.heads, sizes.head_dim)
    return Block(
        {
            "query_elu": elementwise("elu", per_head),
            "query_add": elementwise("add", per_head),
            "key_elu": elementwise("elu", per_head),
            "key_add": elementwise("add", per_head),
            "context": einsum("bhnk,bhnv->bhkv", per_head, per_head),
            "key_sum": reduction("sum", per_head, key_sum),
            "row_sums": einsum("bhnk,bhk->bhn", per_head, key_sum),
            "attended": einsum("bhnk,bhkv->bhnv", per_head, factorized.contexts(sizes)),
            "divide": elementwise("div", per_head, (*per_head[:3], 1)),
        }
    )


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    query, key = (tape.add(tape.activation(x)) for x in (query, key))
    return record_normalised(tape, query, key, value)


def record_normalised(tape: Tape, query: Strided, key: Strided, value: Strided) -> Strided:
    """Return q·kᵀ·v over its rows' sums, recorded on ``tape``."""
    context = tape.einsum("bhnk,bhnv->bhkv", key, value)
    key_sum = tape.sum(key, -2).reshape((*key.shape[:2], key.shape[3]))
    sums = tape.einsum("bhnk,bhk->bhn", query, key_sum)
    return tape.div(tape.einsum("bhnk,bhkv->bhnv", query, context), sums.reshape((*sums.shape, 1)))


KIND = Kind(
    label="linear (elu + 1)",
    formula="2·N·C·d + N·C",
    attend=attend,
    cost=cost,
    record=record,
    exponentials=lambda sizes: 2 * sizes.tokens * sizes.dim,  # at most: elu takes one of each negative number
    extra_elements=lambda sizes: factorized.context_elements(sizes) + sizes.dim,
)

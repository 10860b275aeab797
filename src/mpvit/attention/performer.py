"""Performer attention: softmax attention estimated with m positive random features.

Source: Choromanski et al., "Rethinking Attention with Performers", ICLR 2021 (arXiv:2009.14794), section 2.3 and lemma 1,
with orthogonal features. The feature maps themselves, h·N·m elements, take the place of queries and keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, linear
from mpvit.operations import Block, Shape, einsum, elementwise, reduction
from mpvit.operations.tape import constant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape

EPSILON = 1e-8
"""Added to every feature, so that no row sums to 0 (the ε of the paper, smaller)."""


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, learned: Mapping[str, Tensor]) -> Tensor:
    """Return φ(q)·φ(k)ᵀ·v over its rows' sums; (B, h, N, d) three times -> (B, h, N, d)."""
    import torch

    directions = learned["features"]  # (m, d)
    scale = sizes.head_dim**-0.25
    query, key = _features(query * scale, directions, over=(-1,)), _features(key * scale, directions, over=(-1, -2))
    context = torch.einsum("bhnm,bhnv->bhmv", key, value)  # (B, h, m, d)
    sums = torch.einsum("bhnm,bhm->bhn", query, key.sum(dim=-2))  # (B, h, N)
    return torch.einsum("bhnm,bhmv->bhnv", query, context) / sums.unsqueeze(-1)


def _features(x: Tensor, directions: Tensor, over: tuple[int, ...]) -> Tensor:
    """Return exp(w·x - |x|²/2 - max) + ε, x already scaled by d^(-1/4); (B, h, N, d) -> (B, h, N, m).

    The largest exponent is taken off over the axes ``over``: what a row, or all keys, share cancels in the quotient.
    """
    import torch

    exponents = torch.einsum("bhnd,md->bhnm", x, directions) - x.square().sum(dim=-1, keepdim=True) / 2
    return (exponents - exponents.amax(dim=over, keepdim=True)).exp() + EPSILON


def buffers(sizes: Sizes) -> dict[str, Tensor]:
    """Draw m directions (m, d): blocks of d orthogonal ones, each as long as a Gaussian vector."""
    import torch

    blocks = [torch.randn(sizes.head_dim, sizes.head_dim) for _ in range(-(-sizes.option // sizes.head_dim))]
    if blocks[0].is_meta:
        return {"features": torch.cat(blocks)[: sizes.option].clone()}
    orthogonal = torch.cat([torch.linalg.qr(block)[0] for block in blocks])[: sizes.option]
    lengths = torch.randn(sizes.option, sizes.head_dim).norm(dim=1, keepdim=True)
    return {"features": lengths * orthogonal}


def cost(sizes: Sizes) -> Block:
    """Return the operations: 2·2·N·m·C multiply-adds, and N·m·h for the rows' sums."""
    batch, heads, features, head_dim = sizes.batch, sizes.heads, sizes.option, sizes.head_dim
    per_head = sizes.per_head
    mapped, sums = (batch, heads, sizes.tokens, features), (batch, heads, sizes.tokens)
    key_sum, context = (batch, heads, features), (batch, heads, features, head_dim)
    return Block(
        {
            "query_features": _features_cost(sizes, (*per_head[:3], 1)),
            "key_features": _features_cost(sizes, (*per_head[:2], 1, 1)),
            "context": einsum("bhnm,bhnv->bhmv", mapped, per_head),
            "key_sum": reduction("sum", mapped, key_sum),
            "row_sums": einsum("bhnm,bhm->bhn", mapped, key_sum),
            "attended": einsum("bhnm,bhmv->bhnv", mapped, context),
            "divide": elementwise("div", sizes.per_head, (*sums, 1)),
        }
    )


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    directions = constant(sizes.option, sizes.head_dim)
    query, key = _record_features(tape, query, directions, -1), _record_features(tape, key, directions, -1, -2)
    return linear.record_normalised(tape, query, key, value)


def _record_features(tape: Tape, x: Strided, directions: Strided, *over: int) -> Strided:
    x = tape.add(x)
    exponents = tape.add(tape.einsum("bhnd,md->bhnm", x, directions), tape.sum(tape.square(x), -1))
    return tape.add(tape.exp(tape.add(exponents, tape.amax(exponents, *over))))


def _features_cost(sizes: Sizes, largest: Shape) -> Block:
    """Return the operations of ``_features``, whose largest exponents have the shape ``largest``."""
    mapped, row = (*sizes.per_head[:3], sizes.option), (*sizes.per_head[:3], 1)
    directions = (sizes.option, sizes.head_dim)
    project = einsum("bhnd,md->bhnm", sizes.per_head, directions)._replace(others=(), weights=(directions,), buffers=True)
    return Block(
        {
            "scale": elementwise("mul", sizes.per_head),
            "project": project,
            "square": elementwise("square", sizes.per_head),
            "length": reduction("sum", sizes.per_head, row),
            "half": elementwise("div", row),
            "exponents": elementwise("sub", mapped, row),
            "largest": reduction("amax", mapped, largest),
            "shift": elementwise("sub", mapped, largest),
            "exp": elementwise("exp", mapped),
            "add": elementwise("add", mapped),
        }
    )


KIND = Kind(
    label="performer",
    formula="2·2·N·m·C + N·m·h",
    attend=attend,
    cost=cost,
    record=record,
    exponentials=lambda sizes: 2 * sizes.heads * sizes.tokens * sizes.option,
    extra_elements=lambda sizes: sizes.heads * sizes.option * sizes.head_dim,
    buffers=buffers,
    option="number of features m",
    default=256,
)

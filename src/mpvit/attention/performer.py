"""Performer attention: softmax attention estimated with m positive random features.

Source: Choromanski et al., "Rethinking Attention with Performers", ICLR 2021 (arXiv:2009.14794), section 2.3 and lemma 1,
with orthogonal features. The feature maps, h·N·m elements, replace queries and keys.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec, linear
from mpvit.operations.tensor_spec import parameter

if TYPE_CHECKING:
    from torch import Tensor

EPSILON = 1e-8
"""Addend of every feature, so that no row sums to 0 (the ε of the paper, but smaller)."""


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return φ(q)·φ(k)ᵀ·v divided by the row sums; three (B, h, N, d) -> (B, h, N, d)."""
    import torch

    directions = tensors["features"]  # (m, d)
    scale = sizes.head_dim**-0.25
    query, key = _features(query * scale, directions, over=(-1,)), _features(key * scale, directions, over=(-1, -2))
    context = torch.einsum("bhnm,bhnv->bhmv", key, value)  # (B, h, m, d)
    sums = torch.einsum("bhnm,bhm->bhn", query, key.sum(dim=-2))  # (B, h, N)
    return torch.einsum("bhnm,bhmv->bhnv", query, context) / sums.unsqueeze(-1)


def _features(x: Tensor, directions: Tensor, over: tuple[int, ...]) -> Tensor:
    """Return exp(w·x - |x|²/2 - max) + ε for an x that is scaled by d^(-1/4); (B, h, N, d) -> (B, h, N, m).

    The maximum is over the axes ``over``. A factor that a query, or all keys, have in common cancels in the quotient.
    """
    import torch

    exponents = torch.einsum("bhnd,md->bhnm", x, directions) - x.square().sum(dim=-1, keepdim=True) / 2
    return (exponents - exponents.amax(dim=over, keepdim=True)).exp() + EPSILON


def buffers(sizes: Sizes) -> dict[str, Tensor]:
    """Draw m directions (m, d) in blocks of d orthogonal vectors with the lengths of Gaussian vectors."""
    import torch

    blocks = [torch.randn(sizes.head_dim, sizes.head_dim) for _ in range(-(-sizes.option // sizes.head_dim))]
    if blocks[0].is_meta:
        return {"features": torch.cat(blocks)[: sizes.option].clone()}
    orthogonal = torch.cat([torch.linalg.qr(block)[0] for block in blocks])[: sizes.option]
    lengths = torch.randn(sizes.option, sizes.head_dim).norm(dim=1, keepdim=True)
    return {"features": lengths * orthogonal}


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·2·N·m·C multiply-adds, and N·m·h for the row sums."""
    directions = parameter("features", sizes.option, sizes.head_dim, buffer=True)
    with tape.group("query_features"):
        query = _record_features(tape, query, directions, -1)
    with tape.group("key_features"):
        key = _record_features(tape, key, directions, -1, -2)
    return linear.record_normalised(tape, query, key, value)


def _record_features(tape: Tape, x: TensorSpec, directions: TensorSpec, *over: int) -> TensorSpec:
    x = tape.elementwise("scale", "mul", x)
    projected = tape.einsum("project", "bhnd,md->bhnm", x, directions)
    length = tape.reduction("length", "sum", tape.elementwise("square", "square", x), -1)
    exponents = tape.elementwise("exponents", "sub", projected, tape.elementwise("half", "div", length))
    shifted = tape.elementwise("shift", "sub", exponents, tape.reduction("largest", "amax", exponents, *over))
    return tape.elementwise("add", "add", tape.elementwise("exp", "exp", shifted))


KIND = Kind(
    label="performer",
    formula="2·2·N·m·C + N·m·h",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: sizes.heads * sizes.option * sizes.head_dim,
    buffers=buffers,
    option="number of features m",
    default=256,
)

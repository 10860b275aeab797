"""Linformer attention: learned matrices project keys and values from N to k tokens, for one fixed N.

Source: Wang et al., "Linformer: Self-Attention with Linear Complexity", 2020 (arXiv:2006.04768), equation 7, with one
pair of projections for all heads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec, softmax
from mpvit.errors import UsageError
from mpvit.operations.tensor_spec import parameter

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return softmax(q·(E·k)ᵀ / √d)·(F·v); three (B, h, N, d) -> (B, h, N, d). Raises ``UsageError`` for another N."""
    import torch

    projections = tensors["key_projection"], tensors["value_projection"]  # (k, N) each
    if query.shape[2] != projections[0].shape[1]:
        raise UsageError(
            f"linformer attention over {query.shape[2]} tokens: its projections are for {projections[0].shape[1]}",
            hint="choose images of the size that the network was built for",
        )
    key, value = (torch.einsum("bhnd,kn->bhkd", x, p) for p, x in zip(projections, (key, value), strict=True))
    scores = torch.einsum("bhqd,bhkd->bhqk", sizes.head_dim**-0.5 * query, key)  # (B, h, N, k)
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), value)


def parameters(sizes: Sizes) -> dict[str, Tensor]:
    """Return E and F, (k, N) each, drawn from a normal distribution with variance 1 / k."""
    import torch

    shape, std = (sizes.option, sizes.tokens), sizes.option**-0.5
    return {name: std * torch.randn(shape) for name in ("key_projection", "value_projection")}


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·2·N·k·C multiply-adds."""

    def project(name: str, x: TensorSpec) -> TensorSpec:
        return tape.einsum(name, "bhnd,kn->bhkd", x, parameter(name, sizes.option, sizes.tokens))

    key, value = project("key_projection", key), project("value_projection", value)
    return softmax.record(tape, query, key, value, sizes)


KIND = Kind(
    label="linformer",
    formula="2·2·N·k·C",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: sizes.heads * sizes.tokens * sizes.option,
    parameters=parameters,
    fixed_tokens=True,
    option="rank k",
    default=256,
)

"""Spatial-reduction attention: a strided convolution and a layer norm merge R x R keys and values to one.

Source: Wang et al., "Pyramid Vision Transformer", ICCV 2021 (arXiv:2102.12122), equations 3 and 4. Here the convolution comes
after the linear layers instead of before them, so that the projections cost the same for every kind of attention.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec
from mpvit.operations.tensor_spec import parameter

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return softmax(q·SR(k)ᵀ / √d)·SR(v); three (B, h, N, d) -> (B, h, N, d). The grid is padded to whole R x R windows."""
    import torch
    from einops import rearrange
    from torch.nn.functional import conv2d, layer_norm, pad

    right, below = sizes.padding

    def reduce(x: Tensor) -> Tensor:  # (B, h, N, d) -> (B, h, N', d)
        grid = pad(rearrange(x, "b heads (h w) d -> b (heads d) h w", h=sizes.height), (0, right, 0, below))
        merged = conv2d(grid, tensors["weight"], tensors["bias"], stride=sizes.option)
        tokens = rearrange(merged, "b c h w -> b (h w) c")
        tokens = layer_norm(tokens, (sizes.dim,), tensors["norm_weight"], tensors["norm_bias"])
        return rearrange(tokens, "b n (heads d) -> b heads n d", heads=sizes.heads)

    scores = torch.einsum("bhqd,bhkd->bhqk", sizes.head_dim**-0.5 * query, reduce(key))  # (B, h, N, N')
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), reduce(value))


def parameters(sizes: Sizes) -> dict[str, Tensor]:
    """Return weight (C, C, R, R) and bias of the convolution, initialised as in torch, and weight and bias of the norm."""
    import torch
    from torch import nn

    convolution = nn.Conv2d(sizes.dim, sizes.dim, sizes.option, sizes.option)
    tensors = {name: tensor.detach() for name, tensor in convolution.named_parameters()}
    return {**tensors, "norm_weight": torch.ones(sizes.dim), "norm_bias": torch.zeros(sizes.dim)}


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·N'·C multiply-adds with N' = N / R², and N'·R²·C² for each of two convolutions."""
    dim, side, (rows, columns) = sizes.dim, sizes.option, sizes.windows
    padded = (sizes.batch, dim, rows * side, columns * side)
    weights = parameter("weight", dim, dim, side, side), parameter("bias", dim)
    norm_weights = parameter("norm_weight", dim), parameter("norm_bias", dim)

    def reduce(name: str, x: TensorSpec) -> TensorSpec:
        grid = tape.pad(f"{name}_pad", x.rearrange("b heads (h w) d -> b (heads d) h w", h=sizes.height), padded)
        merged = tape.conv(f"{name}_merge", grid, dim, side, stride=side, padding=0, weights=weights)
        tokens = tape.norm(f"{name}_norm", "layer_norm", merged.rearrange("b c h w -> b (h w) c"), weights=norm_weights)
        return tokens.rearrange("b n (heads d) -> b heads n d", heads=sizes.heads)

    query = tape.elementwise("scale", "mul", query)
    scores = tape.einsum("scores", "bhqd,bhkd->bhqk", query, reduce("key", key))
    return tape.einsum("attended", "bhqk,bhkd->bhqd", tape.softmax("softmax", scores), reduce("value", value))


KIND = Kind(
    label="spatial reduction",
    formula="2·N²·C / R² + 2·N·C²",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: sizes.heads * sizes.tokens * prod(sizes.windows),
    parameters=parameters,
    option="reduction ratio R",
    default=8,
)

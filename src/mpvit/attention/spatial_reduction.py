"""Spatial-reduction attention: keys and values are merged R x R to one by a strided convolution and a layer norm.

Source: Wang et al., "Pyramid Vision Transformer", ICCV 2021 (arXiv:2102.12122), equations 3 and 4. The convolution stands
behind the linear layers instead of before them, so that the projections cost what every other kind's do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes
from mpvit.operations.tensor_spec import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.tape import Tape
    from mpvit.operations.tensor_spec import TensorSpec


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return softmax(q·SR(k)ᵀ / √d)·SR(v); (B, h, N, d) three times -> (B, h, N, d). The grid is padded to whole R x R."""
    import torch
    from einops import rearrange
    from torch.nn.functional import conv2d, layer_norm, pad

    rows, columns = _reduced(sizes)
    right, below = columns * sizes.option - sizes.width, rows * sizes.option - sizes.height

    def reduce(x: Tensor) -> Tensor:  # (B, h, N, d) -> (B, h, N', d)
        grid = pad(rearrange(x, "b heads (h w) d -> b (heads d) h w", h=sizes.height), (0, right, 0, below))
        merged = conv2d(grid, tensors["weight"], tensors["bias"], stride=sizes.option)
        tokens = rearrange(merged, "b c h w -> b (h w) c")
        tokens = layer_norm(tokens, (sizes.dim,), tensors["norm_weight"], tensors["norm_bias"])
        return rearrange(tokens, "b n (heads d) -> b heads n d", heads=sizes.heads)

    scores = torch.einsum("bhqd,bhkd->bhqk", sizes.head_dim**-0.5 * query, reduce(key))  # (B, h, N, N')
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), reduce(value))


def _reduced(sizes: Sizes) -> tuple[int, int]:
    """Return the height and width of the merged grid."""
    return -(-sizes.height // sizes.option), -(-sizes.width // sizes.option)


def parameters(sizes: Sizes) -> dict[str, Tensor]:
    """Return the convolution's weight (C, C, R, R) and bias, at first torch's default, and the norm's weight and bias."""
    import torch
    from torch import nn

    convolution = nn.Conv2d(sizes.dim, sizes.dim, sizes.option, sizes.option)
    tensors = {name: tensor.detach() for name, tensor in convolution.named_parameters()}
    return {**tensors, "norm_weight": torch.ones(sizes.dim), "norm_bias": torch.zeros(sizes.dim)}


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·N'·C multiply-adds with N' = N / R², and N'·R²·C² for each of two convolutions."""
    dim, side, (rows, columns) = sizes.dim, sizes.option, _reduced(sizes)
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


def scores_elements(sizes: Sizes) -> int:
    """Return h·N·N', the elements of the attention matrices."""
    rows, columns = _reduced(sizes)
    return sizes.heads * sizes.tokens * rows * columns


KIND = Kind(
    label="spatial reduction",
    formula="2·N²·C / R² + 2·N·C²",
    attend=attend,
    record=record,
    extra_elements=scores_elements,
    parameters=parameters,
    option="reduction ratio R",
    default=8,
)

"""Spatial-reduction attention: keys and values are merged R x R to one by a strided convolution and a layer norm.

Source: Wang et al., "Pyramid Vision Transformer", ICCV 2021 (arXiv:2102.12122), equations 3 and 4. The convolution stands
behind the linear layers instead of before them, so that the projections cost what every other kind's do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes
from mpvit.operations import Block, Operation, conv, einsum, elementwise, function, norm
from mpvit.operations.strided import new
from mpvit.operations.tape import parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, learned: Mapping[str, Tensor]) -> Tensor:
    """Return softmax(q·SR(k)ᵀ / √d)·SR(v); (B, h, N, d) three times -> (B, h, N, d). The grid is padded to whole R x R."""
    import torch
    from einops import rearrange
    from torch.nn.functional import conv2d, layer_norm, pad

    rows, columns = _reduced(sizes)
    right, below = columns * sizes.option - sizes.width, rows * sizes.option - sizes.height

    def reduce(x: Tensor) -> Tensor:  # (B, h, N, d) -> (B, h, N', d)
        grid = pad(rearrange(x, "b heads (h w) d -> b (heads d) h w", h=sizes.height), (0, right, 0, below))
        merged = conv2d(grid, learned["weight"], learned["bias"], stride=sizes.option)
        tokens = rearrange(merged, "b c h w -> b (h w) c")
        tokens = layer_norm(tokens, (sizes.dim,), learned["norm_weight"], learned["norm_bias"])
        return rearrange(tokens, "b n (heads d) -> b heads n d", heads=sizes.heads)

    scores = torch.einsum("bhqd,bhkd->bhqk", sizes.head_dim**-0.5 * query, reduce(key))  # (B, h, N, N')
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), reduce(value))


def _reduced(sizes: Sizes) -> tuple[int, int]:
    """Return the height and width of the merged grid."""
    return -(-sizes.height // sizes.option), -(-sizes.width // sizes.option)


def learned(sizes: Sizes) -> dict[str, Tensor]:
    """Return the convolution's weight (C, C, R, R) and bias, at first torch's default, and the norm's weight and bias."""
    import torch
    from torch import nn

    convolution = nn.Conv2d(sizes.dim, sizes.dim, sizes.option, sizes.option)
    tensors = {name: tensor.detach() for name, tensor in convolution.named_parameters()}
    return {**tensors, "norm_weight": torch.ones(sizes.dim), "norm_bias": torch.zeros(sizes.dim)}


def cost(sizes: Sizes) -> Block:
    """Return the operations: 2·N·N'·C multiply-adds with N' = N / R², and N'·R²·C² for each of two convolutions."""
    rows, columns = _reduced(sizes)
    batch, heads, dim, side = sizes.batch, sizes.heads, sizes.dim, sizes.option
    convolution = conv((batch, dim, rows * side, columns * side), dim, 1, bias=True)
    merge = function(convolution)._replace(
        output_shape=(batch, dim, rows, columns),
        params=dim * dim * side * side + dim,
        weights=((dim, dim, side, side), (dim,)),
    )  # an R x R window every R pixels multiplies each input once, as a 1 x 1 window does
    pad = Operation("pad", (batch, dim, sizes.height, sizes.width), convolution.input_shape)
    merged = (batch, heads, rows * columns, sizes.head_dim)
    scores = (batch, heads, sizes.tokens, rows * columns)
    layer_norm = function(norm("layer_norm", (batch, rows * columns, dim), dim))
    layer_norm = layer_norm._replace(weight_names=("norm_weight", "norm_bias"))
    return Block(
        {
            "scale": elementwise("mul", sizes.per_head),
            "key_pad": pad,
            "key_merge": merge,
            "key_norm": layer_norm,
            "scores": einsum("bhqd,bhkd->bhqk", sizes.per_head, merged),
            "softmax": elementwise("softmax", scores),
            "value_pad": pad,
            "value_merge": merge._replace(params=0),
            "value_norm": layer_norm._replace(params=0),
            "attended": einsum("bhqk,bhkd->bhqd", scores, merged),
        }
    )


def record(tape: Tape, query: Strided, key: Strided, value: Strided, sizes: Sizes) -> Strided:
    """Return the result of the steps of ``attend``, recorded on ``tape``."""
    rows, columns = _reduced(sizes)
    padded = (sizes.batch, sizes.dim, rows * sizes.option, columns * sizes.option)
    weight = parameter(sizes.dim, sizes.dim, sizes.option, sizes.option)

    def reduce(x: Strided) -> Strided:
        grid = x.rearrange("b heads (h w) d -> b (heads d) h w", h=sizes.height)
        grid = tape.add(grid) if grid.shape == padded else new(padded, x.dtype)
        merged = tape.conv_to(grid, weight, (rows, columns))
        tokens = tape.layer_norm(merged.rearrange("b c h w -> b (h w) c"))
        return tokens.rearrange("b n (heads d) -> b heads n d", heads=sizes.heads)

    scores = tape.einsum("bhqd,bhkd->bhqk", tape.add(query), reduce(key))
    return tape.einsum("bhqk,bhkd->bhqd", tape.softmax(scores), reduce(value))


def scores_elements(sizes: Sizes) -> int:
    """Return h·N·N': the elements of the attention matrices, each the exponential of a score."""
    rows, columns = _reduced(sizes)
    return sizes.heads * sizes.tokens * rows * columns


KIND = Kind(
    label="spatial reduction",
    formula="2·N²·C / R² + 2·N·C²",
    attend=attend,
    cost=cost,
    record=record,
    exponentials=scores_elements,
    extra_elements=scores_elements,
    learned=learned,
    option="reduction ratio R",
    default=8,
)

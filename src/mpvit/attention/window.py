"""Window attention: softmax attention within windows of M x M tokens; the grid is padded to whole windows.

Source: Liu et al., "Swin Transformer", ICCV 2021 (arXiv:2103.14030), section 3.2, without shift and position bias.
Padded tokens cost as much as real ones but are masked, so that one window over the whole grid is full attention.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec
from mpvit.devices import in_torch_graph
from mpvit.operations.tensor_spec import constant

if TYPE_CHECKING:
    from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return softmax(q·kᵀ / √d)·v within each window; three (B, h, N, d) -> (B, h, N, d)."""
    import torch
    from einops import rearrange
    from torch.nn.functional import pad

    side, (rows, columns), (right, below) = sizes.option, sizes.windows, sizes.padding

    def partition(x: Tensor) -> Tensor:  # (B, h, N, d) -> (windows of all images, h, M², d)
        grid = rearrange(x, "b heads (h w) d -> b heads h w d", h=sizes.height)
        padded = pad(grid, (0, 0, 0, right, 0, below))
        return rearrange(padded, "b heads (i h) (j w) d -> (b i j) heads (h w) d", i=rows, j=columns)

    query, key, value = (partition(x) for x in (sizes.head_dim**-0.5 * query, key, value))
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key)  # (windows, h, M², M²)
    if in_torch_graph() or right or below:  # a graph must serve every size
        real = pad(torch.ones(sizes.height, sizes.width, dtype=torch.bool, device=query.device), (0, right, 0, below))
        real = rearrange(real, "(i h) (j w) -> (i j) 1 1 (h w)", i=rows, j=columns).repeat(sizes.batch, 1, 1, 1)
        scores = scores.masked_fill(~real, -torch.inf)
    attended = torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1), value)
    grid = rearrange(attended, "(b i j) heads (h w) d -> b heads (i h) (j w) d", i=rows, j=columns, h=side)
    return rearrange(grid[:, :, : sizes.height, : sizes.width], "b heads h w d -> b heads (h w) d")


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·M²·N·C multiply-adds, with N padded to whole windows."""
    side, (rows, columns) = sizes.option, sizes.windows
    padded = (sizes.batch, sizes.heads, rows * side, columns * side, sizes.head_dim)

    def partition(name: str, x: TensorSpec) -> TensorSpec:
        grid = tape.pad(name, x.rearrange("b heads (h w) d -> b heads h w d", h=sizes.height), padded)
        return grid.rearrange("b heads (i h) (j w) d -> (b i j) heads (h w) d", i=rows, j=columns)

    query = partition("query_pad", tape.elementwise("scale", "mul", query))
    key, value = partition("key_pad", key), partition("value_pad", value)
    scores = tape.einsum("scores", "bhqd,bhkd->bhqk", query, key)
    if rows * columns * side**2 != sizes.tokens:
        scores = tape.masked_fill("mask", scores, constant(sizes.batch * rows * columns, 1, 1, side**2, dtype="bool"))
    attended = tape.einsum("attended", "bhqk,bhkd->bhqd", tape.softmax("softmax", scores), value)
    grid = attended.rearrange("(b i j) heads (h w) d -> b heads (i h) (j w) d", i=rows, j=columns, h=side)
    inside = grid.narrow((*padded[:2], sizes.height, sizes.width, sizes.head_dim))
    return inside.rearrange("b heads h w d -> b heads (h w) d")


KIND = Kind(
    label="window",
    formula="2·M²·N·C",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: sizes.heads * prod(sizes.windows) * sizes.option**4,
    option="window side M",
    default=7,
)

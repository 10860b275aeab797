"""Factorized attention with convolutional relative position encoding (CRPE), as in MPViT.

Source: Xu et al., "Co-Scale Conv-Attentional Image Transformers", ICCV 2021 (arXiv:2104.06399), equations 4 and 6. The
values on their grid pass depthwise convolutions whose window depends on the head; the query multiplies the result. In the
network the convolutions belong to a path, whose layers share them. As a separate kind, the attention owns them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from mpvit.attention import Kind, Sizes, Tape, Tensors, TensorSpec, factorized

if TYPE_CHECKING:
    from torch import Tensor

ENCODING = "ConvRelativePositionEncoding"
"""Class name of the module that ``record_encoding`` records."""

Windows = tuple[tuple[int, int], ...]
"""Pairs (window side, share): heads are split over the windows in proportion to the shares."""

PUBLISHED_WINDOWS: Windows = ((3, 2), (5, 3), (7, 3))
"""The paper's windows: with 8 heads, 2 have 3 x 3, 3 have 5 x 5 and 3 have 7 x 7 positions, on average 30."""


def split_heads(heads: int, windows: Windows) -> Windows:
    """Return pairs (window side, heads) whose heads sum to ``heads``; a window without heads is left out.

    Cumulative shares are rounded half up: the published windows split 8 heads into 2, 3, 3 and 4 heads into 1, 2, 1.
    """
    shares = [share for _, share in windows]
    total = sum(shares)
    ends = [(2 * heads * end + total) // (2 * total) for end in accumulate(shares)]
    counts = [end - start for start, end in pairwise([0, *ends])]
    return tuple((window, count) for (window, _), count in zip(windows, counts, strict=True) if count)


def encode(
    query: Tensor,
    value: Tensor,
    grid: tuple[int, int],
    convs: Iterable[Callable[[Tensor], Tensor]],
    channels: Sequence[int],
) -> Tensor:
    """Return q ∘ conv(v), two (B, h, N, d) -> (B, h, N, d).

    ``convs`` are depthwise convolutions, (B, c, H, W) -> (B, c, H, W), one for each group of heads; ``channels`` are their c.
    """
    import torch
    from einops import rearrange

    on_grid = rearrange(value, "b heads (h w) d -> b (heads d) h w", h=grid[0], w=grid[1])
    pieces = on_grid.split_with_sizes(channels, dim=1)
    if torch.compiler.is_dynamo_compiling():  # inductor cannot order the strides of a split of an unknown grid
        pieces = tuple(piece.contiguous() for piece in pieces)
    encoded = torch.cat([conv(piece) for conv, piece in zip(convs, pieces, strict=True)], dim=1)
    return query * rearrange(encoded, "b (heads d) h w -> b heads (h w) d", heads=value.shape[1])


def attend(query: Tensor, key: Tensor, value: Tensor, sizes: Sizes, tensors: Tensors) -> Tensor:
    """Return q·(softmax over tokens of k)ᵀ·v / √d + q ∘ conv(v); three (B, h, N, d) -> (B, h, N, d)."""
    from functools import partial

    from torch.nn.functional import conv2d

    weights, biases = ([tensor for name, tensor in tensors.items() if name.startswith(part)] for part in ("weight", "bias"))
    convs = [
        partial(conv2d, weight=weight, bias=bias, padding=weight.shape[-1] // 2, groups=len(weight))
        for weight, bias in zip(weights, biases, strict=True)
    ]
    encoded = encode(query, value, (sizes.height, sizes.width), convs, [len(weight) for weight in weights])
    return factorized.attend(query, key, value, sizes, {}) + encoded


def parameters(sizes: Sizes) -> dict[str, Tensor]:
    """Return the weight (c, 1, w, w) and bias (c,) of each convolution, with torch's default initialisation."""
    from torch import nn

    tensors: dict[str, Tensor] = {}
    for window, heads in split_heads(sizes.heads, PUBLISHED_WINDOWS):
        channels = heads * sizes.head_dim
        convolution = nn.Conv2d(channels, channels, window, groups=channels)
        tensors |= {f"{name}_{window}": tensor.detach() for name, tensor in convolution.named_parameters()}
    return tensors


def record(tape: Tape, query: TensorSpec, key: TensorSpec, value: TensorSpec, sizes: Sizes) -> TensorSpec:
    """Record ``attend``: 2·N·C·d + 30·N·C multiply-adds for 8 heads. The query multiplies elementwise."""
    attended = tape.call("attend", "", factorized.record, query, key, value, sizes)
    encoded = tape.call("crpe", ENCODING, record_encoding, query, value, sizes, PUBLISHED_WINDOWS)
    return tape.elementwise("add", "add", attended, encoded)


def record_encoding(tape: Tape, query: TensorSpec, value: TensorSpec, sizes: Sizes, windows: Windows) -> TensorSpec:
    """Record ``encode``: window² multiply-adds for each channel and token, 30·N·C for the published windows."""
    on_grid = value.rearrange("b heads (h w) d -> b (heads d) h w", h=sizes.height, w=sizes.width)
    pieces: list[TensorSpec] = []
    with tape.group("convs"):
        for index, (window, heads) in enumerate(split_heads(sizes.heads, windows)):
            channels = heads * sizes.head_dim
            piece = on_grid.narrow((sizes.batch, channels, sizes.height, sizes.width))
            pieces.append(tape.conv(str(index), piece, channels, window, groups=channels, bias=True))
    encoded = tape.cat("cat", pieces).rearrange("b (heads d) h w -> b heads (h w) d", heads=sizes.heads)
    return tape.elementwise("mul", "mul", query, encoded)


KIND = Kind(
    label="factorized + CRPE",
    formula="2·N·C·d + 30·N·C",
    attend=attend,
    record=record,
    extra_elements=lambda sizes: max(sizes.tokens * sizes.dim, factorized.context_elements(sizes)),
    parameters=parameters,
)

"""The N x N map between tokens that attention implies, next to the map of full attention.

For factorized attention it is scale·Q·softmax(K)ᵀ. Its rows need not sum to 1, its entries may be negative, and its rank is at
most d (see ``attention/factorized.py``). The relative position encoding is left out, because it is no such map: it weights
each channel of a head separately. A kind whose output is a map times the values returns the map if the values are the identity.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor

from mpvit.architecture.config import FIRST_STAGE
from mpvit.attention import Sizes, get_kind
from mpvit.compare_attention.numerics import MAPS
from mpvit.errors import MpvitError, UsageError
from mpvit.model.layers import Attention, TransformerLayer
from mpvit.model.network import MPViT
from mpvit.model.stages import Path
from mpvit.paths.fields import path_fields
from mpvit.paths.hooks import record_outputs, run, stage_branches
from mpvit.paths.results import HeadMap, MapStatistics, TokenAttention

MAX_TOKENS = 1024
"""Largest number of tokens of a map whose singular values are computed, which takes about a second."""


class LayerInputs(NamedTuple):
    """Queries and keys of one layer, (b, heads, n, d) each, of tokens on a ``grid`` (h, w) that are ``stride`` pixels apart."""

    stage: int
    path: int
    layer: int
    kind: str
    query: Tensor
    key: Tensor
    grid: tuple[int, int]
    stride: int


@torch.inference_mode()
def layer_inputs(model: MPViT, images: Tensor) -> list[LayerInputs]:
    """Return the queries and keys of all layers for ``images``, (b, c, h, w).

    Raises ``UsageError`` for a network with attention that is no map between tokens.
    """
    for number, stage in enumerate(model.config.stages, FIRST_STAGE):
        if stage.attention not in MAPS:
            raise UsageError(
                f"attention {stage.attention!r} of stage {number} is no map between tokens times the values",
                hint=f"must be one of {', '.join(MAPS)}",
            )
    paths = [(at, number, path) for at in stage_branches(model) for number, path in enumerate(at.paths, 1)]
    strides = {(field.stage, field.path): field.token_stride for field in path_fields(model.config)}
    modules = [layer.attention.qkv for *_, path in paths for layer in _layers(path)]
    with record_outputs([*modules, *(path for *_, path in paths)]) as outputs:
        run(model, images)
    found = []
    for at, number, path in paths:
        grid, kind, stride = outputs[path][0].shape[2:], at.stage.config.attention, strides[at.number, number]
        for depth, layer in enumerate(_layers(path), 1):
            query, key = _query_key(outputs[layer.attention.qkv], layer.attention)
            found.append(LayerInputs(at.number, number, depth, kind, query, key, grid, stride))
    return found


def _layers(path: Path) -> Iterable[TransformerLayer]:
    return cast("Iterable[TransformerLayer]", path.layers)


def _query_key(qkv: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
    """Return queries and keys in float64: (b, n, 3c) -> two (b, heads, n, d)."""
    query, key, _ = rearrange(qkv.double(), "b n (three heads d) -> three b heads n d", three=3, heads=attention.sizes.heads)
    if not (query.isfinite().all() and key.isfinite().all()):
        raise MpvitError("queries or keys are not finite", hint="the weights may be damaged")
    return query, key


def implied_map(kind: str, query: Tensor, key: Tensor, grid: tuple[int, int]) -> Tensor:
    """Map (b, heads, m, d) and (b, heads, n, d) -> (b, heads, m, n): the map of attention of ``kind``, with its scale."""
    batch, heads, tokens, head_dim = key.shape
    found, _ = get_kind(kind)
    identity = torch.eye(tokens).to(query).expand(batch, heads, tokens, tokens)
    return found.attend(query, key, identity, Sizes(batch, heads, head_dim, *grid), {})


def distances(grid: tuple[int, int], stride: int) -> Tensor:
    """Return the distances between the tokens of a grid (h, w), in pixels: (n, n)."""
    down, across = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    positions = torch.stack((down.flatten(), across.flatten()), dim=1).double() * stride
    return torch.cdist(positions, positions, compute_mode="donot_use_mm_for_euclid_dist")


def token_attention(
    model: MPViT,
    image: Tensor,
    point: tuple[int, int] | None = None,
    *,
    stage: int | None = None,
    path: int | None = None,
    head: int | None = None,
) -> list[TokenAttention]:
    """Return the attention of the token nearest to the pixel ``point`` (x, y), in the last layer of the paths of a stage.

    By default ``point`` is the centre of the ``image``, (1, c, h, w), and ``stage`` the last. Without ``path`` it is one head
    (by default 1) of each path; with it each head of this path, or ``head`` only. Paths and heads count from 1. Raises
    ``UsageError`` for a point, stage, path or head that the network does not have.
    """
    stage = FIRST_STAGE + len(model.config.stages) - 1 if stage is None else stage
    _require_from("stage", stage, FIRST_STAGE, len(model.config.stages))
    config = model.config.stages[stage - FIRST_STAGE]
    height, width = image.shape[2:]
    x, y = (width // 2, height // 2) if point is None else point
    _require_from("path", 1 if path is None else path, 1, config.paths)
    _require_from("head", 1 if head is None else head, 1, config.heads)
    _require_from("x", x, 0, width)
    _require_from("y", y, 0, height)
    heads = [head] if head else [1] if path is None else range(1, config.heads + 1)
    found = []
    for layer in layer_inputs(model, image):
        if (layer.stage, layer.layer) == (stage, config.layers) and path in (None, layer.path):
            row, column = (min(round(at / layer.stride), length - 1) for at, length in zip((y, x), layer.grid, strict=True))
            token = row * layer.grid[1] + column
            query = layer.query[:, :, token : token + 1]  # the row of the map depends on no other query
            maps = (implied_map(kind, query, layer.key, layer.grid)[0, :, 0] for kind in (layer.kind, "softmax"))
            own, full = (each.unflatten(1, layer.grid).numpy(force=True) for each in maps)
            found += [
                TokenAttention(stage, layer.path, each, layer.stride, (column, row), own[each - 1], full[each - 1])
                for each in heads
            ]
    return found


def _require_from(name: str, number: int, first: int, count: int) -> None:
    if not first <= number < first + count:
        raise UsageError(f"{name} = {number}: must be from {first} to {first + count - 1}")


def head_maps(model: MPViT, batches: Iterable[Tensor]) -> tuple[list[HeadMap], list[int]]:
    """Return statistics of the map of each head over all images of ``batches``, and the stages with too many tokens for them.

    Raises ``MpvitError`` if every stage has too many tokens.
    """
    found: dict[tuple[int, int, int, int], list[tuple[MapStatistics, MapStatistics]]] = {}
    layers: dict[tuple[int, int, int, int], LayerInputs] = {}
    left_out: dict[int, None] = {}
    for images in batches:
        for layer in layer_inputs(model, images):
            if layer.query.shape[2] > MAX_TOKENS:
                left_out[layer.stage] = None
                continue
            for head, pairs in enumerate(_statistics(layer), 1):
                key = (layer.stage, layer.path, layer.layer, head)
                found.setdefault(key, []).extend(pairs)
                layers[key] = layer
    if not found:
        raise MpvitError(f"every stage has more than {MAX_TOKENS} tokens, too many for its maps", hint="choose a smaller size")
    results = []
    for key, pairs in found.items():
        layer = layers[key]
        own, full = (_mean(statistics) for statistics in zip(*pairs, strict=True))
        uniform = float(distances(layer.grid, layer.stride).mean())
        tokens, head_dim = layer.query.shape[2:]
        results.append(HeadMap(*key, tokens, head_dim, own, full, uniform))
    return results, list(left_out)


def _statistics(layer: LayerInputs) -> Iterator[list[tuple[MapStatistics, MapStatistics]]]:
    """Yield, for each head, the statistics of its own map and that of full attention for each image."""
    apart = distances(layer.grid, layer.stride).to(layer.query)
    for head in range(layer.query.shape[1]):
        query, key = layer.query[:, head : head + 1], layer.key[:, head : head + 1]
        own, full = (implied_map(kind, query, key, layer.grid)[:, 0] for kind in (layer.kind, "softmax"))
        yield [(map_statistics(a, apart), map_statistics(b, apart)) for a, b in zip(own, full, strict=True)]


def map_statistics(weights: Tensor, apart: Tensor) -> MapStatistics:
    """Return the statistics of a map, (n, n); ``apart`` are the distances between the tokens, (n, n)."""
    values = torch.linalg.svdvals(weights)
    shares = values / values.sum()
    size = weights.abs()
    return MapStatistics(
        rank=int((values > values[0] * len(values) * torch.finfo(values.dtype).eps).sum()),
        effective_rank=float(torch.special.entr(shares).sum().exp()),
        distance_px=float(((size * apart).sum(1) / size.sum(1)).mean()),
        negative_share=float((weights < 0).double().mean()),
    )


def _mean(found: Sequence[MapStatistics]) -> MapStatistics:
    """Return the means over images, and the largest rank."""
    ranks, *others = zip(*found, strict=True)
    return MapStatistics(max(ranks), *(sum(column) / len(found) for column in others))

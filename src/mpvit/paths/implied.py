"""The map between tokens that attention implies: for factorized attention scale·Q·softmax(K)ᵀ, beside full attention's.

Factorized attention's rows need not sum to 1, its entries may be below 0, and its rank is at most d (see
``attention/factorized.py``). The relative position encoding is no such map: it weighs each channel of a head by itself, so it
is left out. Any kind whose output is a map times the values gives that map where the values are the identity.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from einops import rearrange

from mpvit.attention import Sizes, get_kind
from mpvit.compare_attention.numerics import MAPS
from mpvit.config import FIRST_STAGE
from mpvit.errors import MpvitError, UsageError
from mpvit.paths.fields import path_fields
from mpvit.paths.inside import kept, opened, show
from mpvit.paths.results import Attended, HeadMap, MapStatistics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

    from mpvit.model.layers import Attention, TransformerLayer
    from mpvit.model.network import MPViT

MOST_TOKENS = 1024
"""Of a map whose singular values take about a second."""


class Layer(NamedTuple):
    """One layer's queries and keys, (b, heads, n, d) each, in a path; ``grid`` is (h, w), and ``stride`` in pixels."""

    stage: int
    path: int
    layer: int
    kind: str
    query: Tensor
    key: Tensor
    grid: tuple[int, int]
    stride: int


@torch.inference_mode()
def layers(model: MPViT, images: Tensor) -> list[Layer]:
    """Return the queries and keys of all layers as the network looks at ``images``, (b, c, h, w)."""
    require_maps(model)
    places = [
        (at.number, place, depth, at.stage.config.attention, path, layer.attention)
        for at in opened(model)
        for place, path in enumerate(at.paths, 1)
        for depth, layer in enumerate(cast("Iterable[TransformerLayer]", path.layers), 1)
    ]
    strides = {(field.stage, field.path): field.token_stride for field in path_fields(model.config)}
    with kept(module for *_, path, attention in places for module in (path, attention.qkv)) as found:
        show(model, images)
    return [
        Layer(
            number,
            place,
            depth,
            kind,
            *_query_key(found[attention.qkv], attention),
            found[path][0].shape[2:],
            strides[number, place],
        )
        for number, place, depth, kind, path, attention in places
    ]


def _query_key(qkv: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
    """Return queries and keys in float64: (b, n, 3c) -> two (b, heads, n, d)."""
    query, key, _ = rearrange(qkv.double(), "b n (three heads d) -> three b heads n d", three=3, heads=attention.sizes.heads)
    if not (query.isfinite().all() and key.isfinite().all()):
        raise MpvitError("queries and keys are no numbers", hint="the weights may be damaged")
    return query, key


def require_maps(model: MPViT) -> None:
    """Raise ``UsageError`` for a network with attention that is no map between tokens."""
    for number, stage in enumerate(model.config.stages, FIRST_STAGE):
        if stage.attention not in MAPS:
            raise UsageError(
                f"attention {stage.attention!r} of stage {number} is no map between tokens times the values",
                hint=f"must be one of {', '.join(MAPS)}",
            )


def implied_map(kind: str, query: Tensor, key: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the map of attention of ``kind``, its scale included: (b, heads, m, d), (b, heads, n, d) -> (b, heads, m, n)."""
    batch, heads, tokens, head_dim = key.shape
    found, _ = get_kind(kind)
    every_token = torch.eye(tokens).to(query).expand(batch, heads, tokens, tokens)
    return found.attend(query, key, every_token, Sizes(batch, heads, head_dim, *grid), {})


def distances(grid: tuple[int, int], stride: int) -> Tensor:
    """Return how far apart tokens on a grid are, in pixels: (n, n)."""
    down, across = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    places = torch.stack((down.flatten(), across.flatten()), dim=1).double() * stride
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")


def attended(
    model: MPViT,
    image: Tensor,
    place: tuple[int, int] | None = None,
    *,
    stage: int | None = None,
    path: int | None = None,
    head: int | None = None,
) -> list[Attended]:
    """Return to which tokens the one next to a pixel, ``place`` (x, y), attends in the last layer of a stage's paths.

    By default ``place`` is the middle and ``stage`` the last. ``path`` and ``head`` count from 1; without ``path`` it is one
    head (default 1) of each path, with it each head of that one, or ``head`` alone. ``image`` is (1, c, h, w). Raises
    ``UsageError`` for what is not there.
    """
    stage = FIRST_STAGE + len(model.config.stages) - 1 if stage is None else stage
    config = model.config.stages[_within("stage", stage, FIRST_STAGE, len(model.config.stages)) - FIRST_STAGE]
    for name, number, last in (("path", path, config.paths), ("head", head, config.heads)):
        _within(name, 1 if number is None else number, 1, last)
    x, y = (image.shape[3] // 2, image.shape[2] // 2) if place is None else place
    for name, pixel, side in (("x", x, image.shape[3]), ("y", y, image.shape[2])):
        _within(name, pixel, 0, side)
    heads = [head] if head else [1] if path is None else range(1, config.heads + 1)
    found = []
    for layer in layers(model, image):
        if (layer.stage, layer.layer) == (stage, config.layers) and path in (None, layer.path):
            height, width = layer.grid
            row, column = (min(round(at / layer.stride), length - 1) for at, length in ((y, height), (x, width)))
            token = row * width + column
            query = layer.query[:, :, token : token + 1]  # the map's row needs no other
            own, full = (implied_map(kind, query, layer.key, layer.grid)[0, :, 0] for kind in (layer.kind, "softmax"))
            own, full = (each.unflatten(1, layer.grid).numpy(force=True) for each in (own, full))
            found += [
                Attended(stage, layer.path, each, layer.stride, (column, row), own[each - 1], full[each - 1]) for each in heads
            ]
    return found


def _within(name: str, number: int, first: int, count: int) -> int:
    if not first <= number < first + count:
        raise UsageError(f"{name} = {number}: must be from {first} to {first + count - 1}")
    return number


def head_maps(model: MPViT, batches: Iterable[Tensor]) -> tuple[list[HeadMap], list[int]]:
    """Return what each head's map is like over all pictures of ``batches``, and the stages with too many tokens for that.

    Raises ``MpvitError`` where no stage has few enough.
    """
    found: dict[tuple[int, int, int, int], list[tuple[MapStatistics, MapStatistics]]] = {}
    about: dict[tuple[int, int, int, int], Layer] = {}
    left_out: dict[int, None] = {}
    for images in batches:
        for layer in layers(model, images):
            if layer.query.shape[2] > MOST_TOKENS:
                left_out[layer.stage] = None
                continue
            for head, pairs in enumerate(_statistics(layer), 1):
                place = (layer.stage, layer.path, layer.layer, head)
                found.setdefault(place, []).extend(pairs)
                about[place] = layer
    results = []
    for place, pairs in found.items():
        layer = about[place]
        own, full = (_mean([pair[which] for pair in pairs]) for which in (0, 1))
        uniform = float(distances(layer.grid, layer.stride).mean())
        tokens, head_dim = layer.query.shape[2:]
        results.append(HeadMap(*place, tokens, head_dim, own, full, uniform))
    if not results:
        raise MpvitError(
            f"no stage has at most {MOST_TOKENS} tokens, for whose maps there is time", hint="a smaller size has fewer"
        )
    return results, list(left_out)


def _statistics(layer: Layer) -> Iterator[list[tuple[MapStatistics, MapStatistics]]]:
    """Yield, for each head, what its own and full attention's map are like for each picture."""
    apart = distances(layer.grid, layer.stride).to(layer.query)
    for head in range(layer.query.shape[1]):
        query, key = layer.query[:, head : head + 1], layer.key[:, head : head + 1]
        own, full = (implied_map(kind, query, key, layer.grid)[:, 0] for kind in (layer.kind, "softmax"))
        yield [(map_statistics(a, apart), map_statistics(b, apart)) for a, b in zip(own, full, strict=True)]


def map_statistics(weights: Tensor, apart: Tensor) -> MapStatistics:
    """Return what a map is like, (n, n); ``apart`` are the tokens' distances, (n, n)."""
    values = torch.linalg.svdvals(weights)
    shares = values / values.sum()
    size = weights.abs()
    return MapStatistics(
        rank=int((values > values[0] * len(values) * torch.finfo(values.dtype).eps).sum()),
        effective_rank=float(torch.special.entr(shares).sum().exp()),
        distance=float(((size * apart).sum(1) / size.sum(1)).mean()),
        negative=float((weights < 0).double().mean()),
    )


def _mean(found: list[MapStatistics]) -> MapStatistics:
    """Return the means over pictures, and the largest rank."""
    ranks, *others = zip(*found, strict=True)
    return MapStatistics(max(ranks), *(sum(column) / len(found) for column in others))

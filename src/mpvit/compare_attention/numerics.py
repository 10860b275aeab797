"""What each kind of attention loses in half precision as N grows, and what map between tokens it implies."""

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from mpvit.attention import Kind, Sizes, get_kind, grid_of
from mpvit.compare_attention.results import ImpliedMap, RoundingError
from mpvit.measurement.options import DTYPES

MAPS = ("softmax", "efficient", "linear", "factorized")
"""Kinds whose output is a map between tokens times the values, whatever the values are."""

MAP_TOKENS = 196
"""The N of the implied maps: the 14 x 14 tokens of MPViT's stage 4 at 224²."""

_SEED = 0


def random_inputs(name: str, sizes: Sizes, *, seed: int = _SEED) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Draw (query, key, value), standard normal (B, h, N, d) in float64, and the kind's own tensors; ``sizes`` as they are.

    Deterministic, and torch's random state stays as it was.
    """
    kind, _ = get_kind(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tensors = list(torch.randn(3, *sizes.per_head, dtype=torch.float64))
        own = {key: tensor.double() for key, tensor in {**kind.parameters(sizes), **kind.buffers(sizes)}.items()}
    return tensors, own


def rounding_errors(
    names: Sequence[str], sizes: Sizes, tokens: Sequence[int], dtypes: Sequence[str] = DTYPES
) -> list[RoundingError]:
    """Return, for each kind, N and dtype, how far the result is from the same inputs in float64.

    The inputs are rounded to the dtype first, so that the error is the arithmetic's alone.
    """
    return [
        _rounding_error(name, sizes._replace(height=height, width=width), dtype)
        for height, width in map(grid_of, tokens)
        for name in names
        for dtype in dtypes
    ]


def _rounding_error(name: str, sizes: Sizes, dtype: str) -> RoundingError:
    kind, option = get_kind(name)
    sizes = sizes._replace(option=option)
    tensors, own = random_inputs(name, sizes)
    kept: torch.dtype = getattr(torch, dtype)
    rounded = [tensor.to(kept) for tensor in tensors]
    own_rounded = {key: tensor.to(kept) for key, tensor in own.items()}
    error = relative_error(kind, rounded[0], rounded[1], rounded[2], own_rounded, sizes)
    return RoundingError(kind.label, name, sizes.tokens, dtype, error if isfinite(error) else None)


@torch.inference_mode()
def relative_error(kind: Kind, query: Tensor, key: Tensor, value: Tensor, own: Mapping[str, Tensor], sizes: Sizes) -> float:
    """Return how far ``kind`` on these tensors is from the same in float64: the norm of the difference over the norm."""
    doubles = {name: tensor.double() for name, tensor in own.items()}
    exact = kind.attend(query.double(), key.double(), value.double(), sizes, doubles)
    found = kind.attend(query, key, value, sizes, own).double()
    return ((found - exact).norm() / exact.norm()).item()


def implied_maps(sizes: Sizes, names: Sequence[str] = MAPS) -> list[ImpliedMap]:
    """Return what the N x N maps of ``names`` are like, for one head of ``sizes.head_dim`` channels and random tokens.

    Softmax's map has full rank, no negative entry and rows that sum to 1. Factorized attention's has rank at most d,
    entries of both signs, and rows that sum to scale·Σq: it is no approximation of softmax's.
    """
    return [_implied_map(name, sizes) for name in names]


def _implied_map(name: str, sizes: Sizes) -> ImpliedMap:
    kind, _ = get_kind(name)
    height, width = grid_of(MAP_TOKENS)
    one = Sizes(1, 1, sizes.head_dim, height, width)
    (query, key, _), own = random_inputs(name, one)
    every_token = torch.eye(one.tokens, dtype=torch.float64).reshape(1, 1, one.tokens, one.tokens)
    implied = kind.attend(query, key, every_token, one, own)[0, 0]
    sums = implied.sum(dim=1)
    return ImpliedMap(
        label=kind.label,
        kind=name,
        tokens=one.tokens,
        head_dim=one.head_dim,
        rank=int(torch.linalg.matrix_rank(implied)),
        negative_share=(implied < 0).double().mean().item(),
        row_sum_min=sums.min().item(),
        row_sum_max=sums.max().item(),
    )

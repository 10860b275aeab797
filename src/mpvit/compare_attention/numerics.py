"""Each kind of attention in half precision as N grows, and the map between tokens that it implies."""

from collections.abc import Mapping, Sequence
from math import isfinite

import torch
from torch import Tensor

from mpvit.attention import Kind, Sizes, get_kind, grid_of
from mpvit.compare_attention.results import ImpliedMap, RoundingError
from mpvit.measurement.options import DTYPES

MAPS = ("softmax", "efficient", "linear", "factorized")
"""Kinds whose output is a map between tokens times the values, for all values."""

MAP_TOKENS = 196
"""N of the implied maps: the 14 x 14 tokens of stage 4 of MPViT at 224² pixels."""

_SEED = 0


def random_inputs(name: str, sizes: Sizes) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return standard normal (query, key, value), (B, h, N, d) in float64, and the kind's own tensors by name.

    They are the same in every call, and torch's random state does not change.
    """
    kind, _ = get_kind(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        tensors = list(torch.randn(3, *sizes.per_head, dtype=torch.float64))
        own = {key: tensor.double() for key, tensor in {**kind.parameters(sizes), **kind.buffers(sizes)}.items()}
    return tensors, own


def rounding_errors(names: Sequence[str], sizes: Sizes, tokens: Sequence[int]) -> list[RoundingError]:
    """Return, for each N, kind and dtype, the relative error of the result against float64.

    The inputs of both are rounded to the dtype, so that the error is that of the arithmetic.
    """
    found = []
    for height, width in map(grid_of, tokens):
        for name in names:
            kind, option = get_kind(name)
            at = sizes._replace(height=height, width=width, option=option)
            tensors, own = random_inputs(name, at)
            for dtype in DTYPES:
                query, key, value = (tensor.to(getattr(torch, dtype)) for tensor in tensors)
                rounded = {label: tensor.to(query.dtype) for label, tensor in own.items()}
                error = relative_error(kind, query, key, value, rounded, at)
                found.append(RoundingError(kind.label, name, at.tokens, dtype, error if isfinite(error) else None))
    return found


@torch.inference_mode()
def relative_error(kind: Kind, query: Tensor, key: Tensor, value: Tensor, own: Mapping[str, Tensor], sizes: Sizes) -> float:
    """Return the relative error of ``kind`` against float64: the norm of the difference over the norm."""
    doubles = {name: tensor.double() for name, tensor in own.items()}
    exact = kind.attend(query.double(), key.double(), value.double(), sizes, doubles)
    computed = kind.attend(query, key, value, sizes, own).double()
    return ((computed - exact).norm() / exact.norm()).item()


def implied_maps(sizes: Sizes) -> list[ImpliedMap]:
    """Return properties of the N x N maps of ``MAPS``, for one head of ``sizes.head_dim`` channels and random tokens.

    The map of softmax has full rank, no negative entry, and rows that sum to 1. The map of factorized attention has a rank of
    at most d, entries of both signs, and rows that sum to scale·Σq: it does not approximate softmax.
    """
    one = Sizes(1, 1, sizes.head_dim, *grid_of(MAP_TOKENS))
    identity = torch.eye(one.tokens, dtype=torch.float64).reshape(1, 1, one.tokens, one.tokens)
    found = []
    for name in MAPS:
        kind, _ = get_kind(name)
        (query, key, _), own = random_inputs(name, one)
        implied = kind.attend(query, key, identity, one, own)[0, 0]
        sums = implied.sum(dim=1)
        result = ImpliedMap(
            label=kind.label,
            kind=name,
            tokens=one.tokens,
            head_dim=one.head_dim,
            rank=int(torch.linalg.matrix_rank(implied)),
            negative_share=(implied < 0).double().mean().item(),
            row_sum_min=sums.min().item(),
            row_sum_max=sums.max().item(),
        )
        found.append(result)
    return found

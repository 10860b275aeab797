"""Attention as the number of tokens grows, in closed form: what each kind costs, how it grows, where it crosses softmax.

Multiply-adds are those of matrix products and convolutions; elementwise products and norms are none.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import log

from mpvit.attention import Sizes, get_kind, grid_of
from mpvit.compare_attention.results import AttentionCost, StageTokens
from mpvit.config import FIRST_STAGE, ModelConfig
from mpvit.errors import UsageError
from mpvit.operations import strided_length
from mpvit.operations.conventions import multiply_adds

MET_SIZES = ((224, 224), (384, 384), (512, 512), (800, 1280))
"""Image sizes, (height, width) in pixels, that MPViT is trained and evaluated at."""

MOST_TOKENS = 10**9
"""More are no image: 32 768² pixels at stride 1."""

CROSSING = ("factorized", "factorized_crpe")
"""The kinds whose crossover with full attention is the point of the paper."""


def attention_cost(name: str, sizes: Sizes) -> AttentionCost:
    """Return what the kind ``name`` costs at ``sizes``, for one image, beside full softmax attention.

    Raises ``UsageError`` for an unknown kind.
    """
    kind, option = get_kind(name)
    sizes = sizes._replace(batch=1, option=option)
    macs, full = _macs(name, sizes), _macs("softmax", sizes)
    return AttentionCost(
        kind=name if ":" in name or not option else f"{name}:{option}",
        label=f"{kind.label}, {kind.option.split()[-1]} = {option}" if option else kind.label,
        formula=kind.formula,
        tokens=sizes.tokens,
        grid=(sizes.height, sizes.width),
        dim=sizes.dim,
        heads=sizes.heads,
        macs=macs,
        projection_macs=projection_macs(sizes),
        softmax_macs=full,
        exponentials=kind.exponentials(sizes),
        extra_elements=kind.extra_elements(sizes),
        growth=_growth(name, sizes),
        crossover_tokens=crossover(name, sizes),
    )


def attention_costs(names: Sequence[str], sizes: Sizes) -> list[AttentionCost]:
    """Return ``attention_cost`` of each kind."""
    return [attention_cost(name, sizes) for name in names]


def projection_macs(sizes: Sizes) -> int:
    """Return the multiply-adds of the q, k, v and output projections, the same for each kind: 4·N·C²."""
    return 4 * sizes.tokens * sizes.dim**2


def crossover(name: str, sizes: Sizes) -> float | None:
    """Return the N* at which the kind's multiply-adds equal full attention's 2·N²·C; None where they never do.

    The kind's cost is a·N + b·N² on grids that its windows fill, so N* = a / (2·C - b): d for factorized attention, and
    d + 15 with the relative position encoding (d + 15.5 if the query's elementwise products are counted too).
    """
    side = 8 * (get_kind(name)[1] or 1)
    small, large = (sizes._replace(height=length, width=length) for length in (side, 2 * side))
    per_token = [Fraction(_macs(name, s), s.tokens) for s in (small, large)]
    slope = (per_token[1] - per_token[0]) / (large.tokens - small.tokens)
    constant = per_token[0] - slope * small.tokens
    remaining = 2 * sizes.dim - slope
    return float(constant / remaining) if constant > 0 and remaining > 0 else None


def stage_sizes(config: ModelConfig, stage: int, tokens: int, *, dim: int | None = None, heads: int | None = None) -> Sizes:
    """Return the sizes of ``tokens`` tokens in the paper's ``stage`` (2 the first), or of ``dim`` channels in ``heads`` heads.

    Raises ``UsageError`` for a number of tokens outside 1 to ``MOST_TOKENS``, a stage that does not exist, one of ``dim``
    and ``heads`` alone, or heads that do not fit.
    """
    if not 1 <= tokens <= MOST_TOKENS:
        raise UsageError(f"tokens = {tokens}: must be from 1 to {MOST_TOKENS}")
    last = FIRST_STAGE + len(config.stages) - 1
    if not FIRST_STAGE <= stage <= last:
        raise UsageError(f"stage {stage}: must be from {FIRST_STAGE} to {last}", hint="the paper counts the stem as stage 1")
    if (dim is None) != (heads is None):
        raise UsageError("dim and heads: give both or neither", hint="--dim 64 --heads 8, or --variant and --stage")
    own = config.stages[stage - FIRST_STAGE]
    dim, heads = (own.dim, own.heads) if dim is None or heads is None else (dim, heads)
    if dim < 1 or heads < 1 or dim % heads:
        raise UsageError(f"dim = {dim}: must be at least 1 and divisible by heads = {heads}")
    return Sizes(1, heads, dim // heads, *grid_of(tokens))


def sweep_tokens(center: int, first: int | None = None, last: int | None = None) -> list[int]:
    """Return powers of two from ``first`` to ``last``, 1/64 to 64 times ``center`` unless given, with ``center`` itself."""
    low, high = first or max(center // 64, 1), last or 64 * center
    powers = [2**exponent for exponent in range(high.bit_length()) if low <= 2**exponent <= high]
    ends = [n for n in (first, last, center) if n and low <= n <= high]
    return sorted({*powers, *ends})


def sweep(names: Sequence[str], sizes: Sizes, tokens: Sequence[int]) -> list[AttentionCost]:
    """Return the cost of each kind at each number of tokens, on a grid as square as it can be."""
    grids = [(n, grid_of(n)) for n in tokens]
    return [attention_cost(name, sizes._replace(height=height, width=width)) for _, (height, width) in grids for name in names]


def met_tokens(config: ModelConfig, names: Sequence[str] = CROSSING) -> list[StageTokens]:
    """Return, for each stage of ``config`` and each of ``MET_SIZES``, the tokens it meets and what attention costs there."""
    return [at for size in MET_SIZES for at in tokens_at(config, size, names)]


def tokens_at(config: ModelConfig, size: tuple[int, int], names: Sequence[str]) -> list[StageTokens]:
    """Return, for each stage of ``config`` at an image of (height, width) pixels, its tokens and what attention costs there."""
    met = []
    height, width = (strided_length(strided_length(side, 2), 2) for side in size)
    for index, stage in enumerate(config.stages):
        if index:
            height, width = strided_length(height, 2), strided_length(width, 2)
        sizes = Sizes(1, stage.heads, stage.head_dim, height, width)
        costs = tuple(attention_costs(names, sizes))
        layers = stage.paths * stage.layers
        met.append(StageTokens(index + FIRST_STAGE, size, height * width, stage.dim, stage.heads, costs, layers))
    return met


def _macs(name: str, sizes: Sizes) -> int:
    kind, option = get_kind(name)
    return multiply_adds(kind.operations(sizes._replace(option=option)))


def _growth(name: str, sizes: Sizes) -> float:
    """Return the local exponent of N: log(cost(4·N) / cost(N)) / log 4, both sides of the grid doubled."""
    doubled = sizes._replace(height=2 * sizes.height, width=2 * sizes.width)
    return log(_macs(name, doubled) / _macs(name, sizes), 4)

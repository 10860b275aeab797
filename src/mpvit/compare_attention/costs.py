"""Attention as the number of tokens grows, in closed form: the cost of each kind, its growth, and its crossover with softmax.

Multiply-adds are those of matrix products and convolutions, without elementwise products and norms.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import log

from mpvit.architecture.config import FIRST_STAGE, ModelConfig
from mpvit.attention import Sizes, get_kind, grid_of
from mpvit.compare_attention.results import AttentionCost, StageTokens
from mpvit.errors import UsageError
from mpvit.operations import strided_length
from mpvit.operations.conventions import multiply_adds

IMAGE_SIZES = ((224, 224), (384, 384), (512, 512), (800, 1280))
"""Image sizes, (height, width) in pixels, at which MPViT is trained and evaluated."""

MAX_TOKENS = 10**9
"""Maximum number of tokens: an image of 32 768² pixels at stride 1."""

CROSSING = ("factorized", "factorized_crpe")
"""Kinds of attention of the paper, whose crossover with full attention is shown."""


def attention_cost(name: str, sizes: Sizes) -> AttentionCost:
    """Return the cost of the kind ``name`` at ``sizes`` for one image; raise ``UsageError`` for an unknown kind."""
    kind, option = get_kind(name)
    sizes = sizes._replace(batch=1, option=option)
    macs = _macs(name, sizes)
    doubled = sizes._replace(height=2 * sizes.height, width=2 * sizes.width)
    return AttentionCost(
        kind=name if ":" in name or not option else f"{name}:{option}",
        label=f"{kind.label}, {kind.option.split()[-1]} = {option}" if option else kind.label,
        formula=kind.formula,
        tokens=sizes.tokens,
        grid=(sizes.height, sizes.width),
        dim=sizes.dim,
        heads=sizes.heads,
        macs=macs,
        projection_macs=4 * sizes.tokens * sizes.dim**2,
        softmax_macs=_macs("softmax", sizes),
        exponentials=kind.exponentials(sizes),
        extra_elements=kind.extra_elements(sizes),
        growth=log(_macs(name, doubled) / macs, 4),
        crossover_tokens=crossover(name, sizes),
    )


def crossover(name: str, sizes: Sizes) -> float | None:
    """Return the N* at which the multiply-adds of a kind equal the 2·N²·C of full attention; None if they never do.

    The cost of the kind is a·N + b·N² on grids that its windows fill, so N* = a / (2·C - b): d for factorized attention, and
    d + 15 with the relative position encoding (d + 15.5 with the elementwise products of the query).
    """
    side = 8 * (get_kind(name)[1] or 1)
    small, large = (sizes._replace(height=length, width=length) for length in (side, 2 * side))
    per_token = [Fraction(_macs(name, s), s.tokens) for s in (small, large)]
    slope = (per_token[1] - per_token[0]) / (large.tokens - small.tokens)
    constant = per_token[0] - slope * small.tokens
    remaining = 2 * sizes.dim - slope
    return float(constant / remaining) if constant > 0 and remaining > 0 else None


def stage_sizes(config: ModelConfig, stage: int, tokens: int, *, dim: int | None = None, heads: int | None = None) -> Sizes:
    """Return the sizes of ``tokens`` tokens in ``stage``, as the paper counts, or with ``dim`` channels in ``heads`` heads.

    Raises ``UsageError`` for a number of tokens outside 1 to ``MAX_TOKENS``, a stage that the network does not have, only one
    of ``dim`` and ``heads``, or heads that do not divide the channels.
    """
    if not 1 <= tokens <= MAX_TOKENS:
        raise UsageError(f"tokens = {tokens}: must be from 1 to {MAX_TOKENS}")
    last = FIRST_STAGE + len(config.stages) - 1
    if not FIRST_STAGE <= stage <= last:
        raise UsageError(f"stage {stage}: must be from {FIRST_STAGE} to {last}", hint="the paper counts the stem as stage 1")
    if (dim is None) != (heads is None):
        raise UsageError("dim and heads: give both or neither", hint="for example dim 64 and heads 8")
    own = config.stages[stage - FIRST_STAGE]
    dim, heads = (own.dim, own.heads) if dim is None or heads is None else (dim, heads)
    if dim < 1 or heads < 1 or dim % heads:
        raise UsageError(f"dim = {dim}: must be at least 1 and divisible by heads = {heads}")
    return Sizes(1, heads, dim // heads, *grid_of(tokens))


def sweep_tokens(center: int, first: int | None = None, last: int | None = None) -> list[int]:
    """Return ``center``, ``first``, ``last`` and the powers of two between; by default from 1/64 to 64 times ``center``."""
    low, high = first or max(center // 64, 1), last or 64 * center
    powers = [2**exponent for exponent in range(high.bit_length()) if low <= 2**exponent <= high]
    return sorted({*powers, *(n for n in (first, last, center) if n and low <= n <= high)})


def sweep(names: Sequence[str], sizes: Sizes, tokens: Sequence[int]) -> list[AttentionCost]:
    """Return the cost of each kind at each number of tokens, on the grid that is nearest to a square."""
    grids = [grid_of(n) for n in tokens]
    return [attention_cost(name, sizes._replace(height=height, width=width)) for height, width in grids for name in names]


def stage_tokens(
    config: ModelConfig, image_sizes: Sequence[tuple[int, int]] = IMAGE_SIZES, names: Sequence[str] = CROSSING
) -> list[StageTokens]:
    """Return, for each image size (height, width) in pixels and each stage, its tokens and the cost of their attention."""
    found = []
    for size in image_sizes:
        height, width = (strided_length(strided_length(side, 2), 2) for side in size)
        for index, stage in enumerate(config.stages):
            if index:
                height, width = strided_length(height, 2), strided_length(width, 2)
            sizes = Sizes(1, stage.heads, stage.head_dim, height, width)
            costs = tuple(attention_cost(name, sizes) for name in names)
            layers = stage.paths * stage.layers
            found.append(StageTokens(index + FIRST_STAGE, size, height * width, stage.dim, stage.heads, costs, layers))
    return found


def _macs(name: str, sizes: Sizes) -> int:
    kind, option = get_kind(name)
    return multiply_adds(kind.operations(sizes._replace(option=option)))

"""What a comparison of attention answers, as frozen values: exact integers, SI units in the names, nothing rounded."""

from dataclasses import asdict, dataclass
from typing import Any

from mpvit.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCost:
    """What one kind of attention costs for one image, in closed form.

    Attributes:
        kind: the name that ``mpvit.attention.get_kind`` takes, its number included.
        label: the name that people read.
        formula: the multiply-adds as a formula in tokens N, channels C, heads h and channels per head d.
        tokens: N.
        grid: (height, width) of the tokens.
        dim: C.
        heads: h.
        macs: multiply-adds of the kind itself.
        projection_macs: of the q, k, v and output projections, the same for each kind.
        softmax_macs: of full softmax attention at the same sizes.
        exponentials: how many it takes.
        extra_elements: of the largest tensor beside what every kind holds.
        growth: the local exponent of N in ``macs``.
        crossover_tokens: the N above which it is cheaper than full attention; None where it never is.
    """

    kind: str
    label: str
    formula: str
    tokens: int
    grid: tuple[int, int]
    dim: int
    heads: int
    macs: int
    projection_macs: int
    softmax_macs: int
    exponentials: int
    extra_elements: int
    growth: float
    crossover_tokens: float | None

    @property
    def ratio(self) -> float:
        """Multiply-adds of full softmax attention over this kind's."""
        return self.softmax_macs / self.macs

    @property
    def ratio_with_projections(self) -> float:
        """The same with the projections on both sides."""
        return (self.softmax_macs + self.projection_macs) / (self.macs + self.projection_macs)

    def as_row(self) -> dict[str, Any]:
        """Return the cost as one flat row for JSON and CSV."""
        return {
            **asdict(self),
            "grid": list(self.grid),
            "macs_with_projections": self.macs + self.projection_macs,
            "softmax_over_kind": self.ratio,
            "softmax_over_kind_with_projections": self.ratio_with_projections,
        }


@dataclass(frozen=True, slots=True)
class StageTokens:
    """The tokens that a stage meets at one image size, (height, width) in pixels, and what attention costs there.

    ``layers`` is how many layers the stage has, over all paths; costs are those of one.
    """

    stage: int
    size: tuple[int, int]
    tokens: int
    dim: int
    heads: int
    costs: tuple[AttentionCost, ...]
    layers: int


@dataclass(frozen=True, slots=True)
class AttentionPoint:
    """One kind of attention at one N: what it costs, and what it took."""

    cost: AttentionCost
    measurement: Measurement

    def as_row(self) -> dict[str, Any]:
        """Return the point as one flat row for JSON and CSV."""
        return {**self.cost.as_row(), **self.measurement.as_row()}


@dataclass(frozen=True, slots=True)
class Growth:
    """How the latency of one kind of attention grows: the exponent of N with its interval, from ``tokens`` alone.

    ``predicted`` is the exponent of its multiply-adds over the same N. ``exponent`` is None where too few N lie beyond
    the plateau that fixed overhead makes.
    """

    label: str
    kind: str
    predicted: float | None
    exponent: float | None
    low: float | None
    high: float | None
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """The N above which one kind of attention is faster than full softmax attention: by multiply-adds, and measured.

    ``tokens`` is None where the two do not cross among the measured N; ``always`` says whether the kind was the faster
    one at every measured N.
    """

    label: str
    kind: str
    predicted_tokens: float | None
    tokens: float | None
    low: float | None
    high: float | None
    always: bool


@dataclass(frozen=True, slots=True)
class RoundingError:
    """How far a kind of attention in ``dtype`` is from float64: the norm of the difference over the norm.

    ``relative_error`` is None where the result is not finite.
    """

    label: str
    kind: str
    tokens: int
    dtype: str
    relative_error: float | None


@dataclass(frozen=True, slots=True)
class ImpliedMap:
    """What the N x N map that a kind of attention implies is like, for one head and random tokens.

    ``negative_share`` is the share of its entries below 0, in [0, 1]; ``row_sum_min`` and ``row_sum_max`` the range of
    its rows' sums.
    """

    label: str
    kind: str
    tokens: int
    head_dim: int
    rank: int
    negative_share: float
    row_sum_min: float
    row_sum_max: float

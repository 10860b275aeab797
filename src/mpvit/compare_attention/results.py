"""Results of a comparison of attention, as frozen values: exact integers, and SI units that the names give."""

from dataclasses import asdict, dataclass
from typing import Any

from mpvit.measurement import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionCost:
    """The cost of one kind of attention for one image, in closed form.

    Attributes:
        kind: name for ``mpvit.attention.get_kind``, with its number.
        label: name for people.
        formula: multiply-adds as a formula in tokens N, channels C, heads h and channels per head d.
        tokens: N.
        grid: (height, width) of the tokens.
        dim: C.
        heads: h.
        macs: multiply-adds of the kind itself.
        projection_macs: multiply-adds of the q, k, v and output projections, which are the same for each kind.
        softmax_macs: multiply-adds of full softmax attention at the same sizes.
        exponentials: number of exponentials.
        extra_elements: elements of the largest tensor except those that every kind holds.
        growth: local exponent of N in ``macs``: log(macs(4·N) / macs(N)) / log 4.
        crossover_tokens: N above which it costs less than full attention; None if it never does.
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
        """Multiply-adds of full softmax attention over those of this kind."""
        return self.softmax_macs / self.macs

    @property
    def ratio_with_projections(self) -> float:
        """The same ratio with the projections on both sides."""
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
    """The tokens of a stage at one image size, (height, width) in pixels, and the costs of attention in one layer.

    ``layers`` is the number of layers of the stage, over all paths.
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
    """The cost and the measurement of one kind of attention at one N."""

    cost: AttentionCost
    measurement: Measurement

    def as_row(self) -> dict[str, Any]:
        """Return the point as one flat row for JSON and CSV."""
        return {**self.cost.as_row(), **self.measurement.as_row()}


@dataclass(frozen=True, slots=True)
class Growth:
    """The exponent of N with which the latency of one kind of attention grows, with its interval, fitted to ``tokens``.

    ``predicted`` is the exponent of its multiply-adds over the same N. All are None if too few N lie beyond the overhead
    plateau.
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
    """The N above which one kind of attention is faster than full softmax attention: predicted by multiply-adds, and measured.

    ``tokens`` is None if the two do not cross among the measured N. ``always``: the kind is faster at every measured N.
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
    """The relative error of a kind of attention in ``dtype`` against float64; None if the result is not finite."""

    label: str
    kind: str
    tokens: int
    dtype: str
    relative_error: float | None


@dataclass(frozen=True, slots=True)
class ImpliedMap:
    """Properties of the N x N map that a kind of attention implies, for one head and random tokens.

    ``negative_share`` is the share of negative entries, in [0, 1]; ``row_sum_min`` and ``row_sum_max`` are over all rows.
    """

    label: str
    kind: str
    tokens: int
    head_dim: int
    rank: int
    negative_share: float
    row_sum_min: float
    row_sum_max: float

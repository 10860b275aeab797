"""What the studies answer, as frozen values: exact integers, SI units in the names, nothing rounded."""

from dataclasses import asdict, dataclass, field
from typing import Any

from mpvit.config import PublishedCount
from mpvit.measurement import Measurement
from mpvit.operations import Shape
from mpvit.units import FLOPS_PER_MAC

TOTAL = "total"
"""The part of a count that is the whole network."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One primitive layer of the network: its kind, shapes, and how often one forward pass calls it."""

    kind: str
    input_shape: Shape
    output_shape: Shape
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What one counter counts of one network, or of a part of it.

    Attributes:
        model: name of the variant, or of the configuration's file.
        input_shape: (B, C, H, W) of the image batch.
        counter: who counted: analytic, torch, fvcore or thop.
        convention: what was added up: fvcore, exact, matmul, or thop's own.
        part: the part of the network, ``total`` for all of it.
        params: learned numbers; None where the counter failed.
        macs: multiply-adds under the convention; None where the counter failed.
        activations: output elements of convolutions, linear layers and matmuls; None where the counter has no such count.
        by_kind: the MACs of each kind of operation; sums to ``macs``.
        not_counted: number of calls of each operation that the counter passes over.
        published: the authors' own figures for this network and input, under the convention ``fvcore``; None if none.
        closed_form_macs: what the closed form gives under the same convention; None where it has no such convention.
        layer: of a count by layer, which layer this is.
        error: why the counter failed; empty where it did not.
    """

    model: str
    input_shape: Shape
    counter: str
    convention: str
    part: str = TOTAL
    params: int | None
    macs: int | None
    activations: int | None
    by_kind: dict[str, int] = field(default_factory=dict)
    not_counted: dict[str, int] = field(default_factory=dict)
    published: PublishedCount | None = None
    closed_form_macs: int | None = None
    layer: Layer | None = None
    error: str = ""

    @property
    def flops(self) -> int | None:
        """Floating-point operations: two for each MAC."""
        return None if self.macs is None else FLOPS_PER_MAC * self.macs

    @property
    def agrees(self) -> bool | None:
        """Whether every published figure that this count can be held against is the same; None if there is none."""
        if self.published is None or self.convention != "fvcore":
            return None
        return (self.params, self.macs, self.activations) == (
            self.published.params,
            self.published.macs,
            self.published.activations,
        )

    @property
    def agrees_with_closed_form(self) -> bool | None:
        """Whether the closed form gives the same MACs under the same convention; None if it has no such convention."""
        return None if self.closed_form_macs is None else self.macs == self.closed_form_macs

    def as_row(self) -> dict[str, Any]:
        """Return the count as one flat row for JSON and CSV; ``published`` stays a mapping or None."""
        row: dict[str, Any] = {
            "model": self.model,
            "input_shape": list(self.input_shape),
            "counter": self.counter,
            "convention": self.convention,
            "part": self.part,
            "params": self.params,
            "macs": self.macs,
            "flops": self.flops,
            "activations": self.activations,
            "by_kind": dict(self.by_kind),
            "not_counted": dict(self.not_counted),
            "published": asdict(self.published) if self.published else None,
            "agrees_with_published": self.agrees,
            "closed_form_macs": self.closed_form_macs,
            "error": self.error or None,
        }
        if self.layer:
            row |= {
                "kind": self.layer.kind,
                "layer_input_shape": list(self.layer.input_shape),
                "layer_output_shape": list(self.layer.output_shape),
                "calls": self.layer.calls,
            }
        return row


@dataclass(frozen=True, slots=True)
class Counted:
    """The multiply-adds and learned numbers that a tool counts of any module; ``params`` is None where it counts none."""

    macs: int
    params: int | None


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
    """The tokens that a stage meets at one image size, (height, width) in pixels, and what attention costs there."""

    stage: int
    size: tuple[int, int]
    tokens: int
    dim: int
    heads: int
    costs: tuple[AttentionCost, ...]


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


@dataclass(frozen=True, slots=True)
class Classifier:
    """The network that answered, and where it ran.

    Attributes:
        model: the published variant that it is built like; ``custom`` for any other.
        weights: their file; None where they are random, so that the classes mean nothing.
        device: torch's name of the device.
        threads: CPU threads of one operation.
        dtype: of the weights, such as float32.
    """

    model: str
    weights: str | None
    device: str
    threads: int
    dtype: str

    @property
    def trained(self) -> bool:
        """Whether the weights come from a file."""
        return self.weights is not None


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class that a network gives an image. ``probability`` is its softmax score, in [0, 1]."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The best classes of one image, the likeliest first; or no classes and, in ``error``, the reason why there are none."""

    image: str
    classes: tuple[ClassScore, ...] = ()
    error: str = ""

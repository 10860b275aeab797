"""What an ablation answers: the baseline, a row for each edited network, and the differences between them. Plain data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from mpvit.config import ModelConfig
from mpvit.measurement import Interval, Measurement
from mpvit.units import FLOPS_PER_MAC

PARTS = ("stem", "paths", "local", "fusion", "head")
"""What a network is cut into: a path's patch embedding belongs to the path, the final pooling to the head."""


class Cost(NamedTuple):
    """What a network or a part of it costs; all three add up over the parts."""

    params: int
    macs: int
    activations: int

    def minus(self, other: Self) -> Self:
        """Return the differences."""
        return type(self)(*(a - b for a, b in zip(self, other, strict=True)))


def summed(costs: Iterable[Cost]) -> Cost:
    """Return the cost of all together."""
    return Cost(*map(sum, zip(Cost(0, 0, 0), *costs, strict=True)))


class Figures(NamedTuple):
    """The figures of a whole network: its cost, what autograd keeps of a training step, and the step's peak, in bytes.

    The last two are None where the network cannot be trained on such images.
    """

    params: int
    macs: int
    activations: int
    saved_activation_bytes: int | None
    training_peak_bytes: int | None

    def minus(self, other: Self) -> Self:
        """Return the differences; None where there is none."""
        saved = _difference(self.saved_activation_bytes, other.saved_activation_bytes)
        peak = _difference(self.training_peak_bytes, other.training_peak_bytes)
        return type(self)(*Cost(*self[:3]).minus(Cost(*other[:3])), saved, peak)


def _difference(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one - other


@dataclass(frozen=True, slots=True)
class Matched:
    """How a row met the baseline's budget.

    Attributes:
        quantity: what was matched: macs, params or latency.
        knob: what was turned for it.
        amounts: the knob's value in each stage: channels, layers, or hidden channels of the MLP.
        off: how far from the baseline the row still is, as a share of it.
    """

    quantity: str
    knob: str
    amounts: tuple[int, ...]
    off: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network of an ablation.

    Attributes:
        values: the value on each axis; of the baseline, what it has there.
        config: the network, already matched; None where a constraint refuses it.
        size: (height, width) of the images in pixels.
        parts: the cost of each of ``PARTS``; empty where there is no network.
        saved_activation_bytes: what autograd keeps of a training step; None where it cannot be trained.
        training_peak_bytes: the step's peak with AdamW, in float32; likewise.
        untrainable: why it cannot be trained; empty where it can.
        matched: how the budget was met; None where none was asked for.
        time: the latency of a forward pass; None where it was not measured.
        latency_ratio: the latency over the baseline's, by rounds of the same run.
        error: why there is no such row; empty where there is.
    """

    values: Mapping[str, str]
    config: ModelConfig | None = None
    size: tuple[int, int]
    parts: Mapping[str, Cost] = field(default_factory=dict)
    saved_activation_bytes: int | None = None
    training_peak_bytes: int | None = None
    untrainable: str = ""
    matched: Matched | None = None
    time: Measurement | None = None
    latency_ratio: Interval | None = None
    error: str = ""

    @property
    def figures(self) -> Figures | None:
        """The whole network's figures; None where a constraint refuses it."""
        if not self.parts:
            return None
        return Figures(*summed(self.parts.values()), self.saved_activation_bytes, self.training_peak_bytes)

    def as_row(self) -> dict[str, Any]:
        """Return the network's own figures as a flat row; ``values`` and the parts stay mappings."""
        figures = self.figures
        row: dict[str, Any] = {"values": dict(self.values)}
        row |= dict.fromkeys(Figures._fields) if figures is None else figures._asdict()
        row["flops"] = None if figures is None else FLOPS_PER_MAC * figures.macs
        row["training_error"] = self.untrainable or None
        row |= by_part(self.parts)
        if self.matched:
            row |= {"match": self.matched.quantity, "knob": self.matched.knob, "knob_amounts": list(self.matched.amounts)}
            row["matched_off"] = self.matched.off
        if self.time:
            ratio = self.latency_ratio
            row |= self.time.as_row() | {
                "latency_over_baseline": ratio.estimate if ratio else None,
                "latency_over_baseline_low": ratio.low if ratio else None,
                "latency_over_baseline_high": ratio.high if ratio else None,
            }
        return {**row, "error": self.error or (self.time.error if self.time else "") or None}


def by_part(parts: Mapping[str, Cost] | None, prefix: str = "") -> dict[str, dict[str, int] | None]:
    """Return each figure's mapping from part to number, as a flat row has them."""
    names = [f"{prefix}{figure}_by_part" for figure in Cost._fields]
    if not parts:
        return dict.fromkeys(names)
    return {name: {part: cost[index] for part, cost in parts.items()} for index, name in enumerate(names)}

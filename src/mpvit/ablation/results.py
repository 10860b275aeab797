"""What an ablation answers: the baseline, a row for each edited network, and the differences between them. Plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mpvit.config import ModelConfig
from mpvit.measurement import Interval, Measurement
from mpvit.operations import Cost
from mpvit.training.comparison import AccuracyComparison
from mpvit.units import FLOPS_PER_MAC

PARTS = ("stem", "paths", "local", "fusion", "head")
"""What a network is cut into: a path's patch embedding belongs to the path, the final pooling to the head."""


@dataclass(frozen=True, slots=True)
class NetworkCost(Cost):
    """What a whole network costs, training included; None where it cannot be trained on such images.

    Attributes:
        saved_activation_bytes: what autograd keeps of a training step.
        training_peak_bytes: the step's peak.
    """

    saved_activation_bytes: int | None = None
    training_peak_bytes: int | None = None


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
        accuracy: what training it has come to; None where it was not trained.
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
    accuracy: AccuracyComparison | None = None
    error: str = ""

    @property
    def cost(self) -> NetworkCost | None:
        """What the whole network costs; None where a constraint refuses it."""
        if not self.parts:
            return None
        parts = asdict(sum(self.parts.values(), Cost()))
        return NetworkCost(
            **parts, saved_activation_bytes=self.saved_activation_bytes, training_peak_bytes=self.training_peak_bytes
        )

    def as_row(self) -> dict[str, Any]:
        """Return what the network itself costs as a flat row; ``values`` and the parts stay mappings."""
        cost = self.cost
        row: dict[str, Any] = {"values": dict(self.values)}
        row |= dict.fromkeys(NetworkCost.figures()) if cost is None else asdict(cost)
        row["flops"] = None if cost is None else FLOPS_PER_MAC * cost.macs
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
        if self.accuracy:
            row |= self.accuracy.as_row()
        return {**row, "error": self.error or (self.time.error if self.time else "") or None}


def by_part(parts: Mapping[str, Cost] | None, prefix: str = "") -> dict[str, dict[str, int] | None]:
    """Return each figure's mapping from part to number, as a flat row has them."""
    return {
        f"{prefix}{figure}_by_part": {part: getattr(cost, figure) for part, cost in parts.items()} if parts else None
        for figure in Cost.figures()
    }

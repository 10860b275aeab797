"""The rows of an ablation: each is one network with its cost and, if requested, its latency and accuracy. Plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mpvit.architecture.config import ModelConfig
from mpvit.measurement import Interval, Measurement, interval_row
from mpvit.operations import Cost
from mpvit.training.metrics import AccuracyComparison
from mpvit.units import FLOPS_PER_MAC

PARTS = ("stem", "paths", "local", "fusion", "head")
"""Parts of a network; the patch embedding of a path belongs to paths, the final pooling to the head."""


@dataclass(frozen=True, slots=True)
class NetworkCost(Cost):
    """The cost of a network and of a training step; None if the network cannot be trained on such images.

    Attributes:
        saved_activation_bytes: bytes that autograd saves in a training step.
        training_peak_bytes: peak memory of a training step.
    """

    saved_activation_bytes: int | None = None
    training_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """How a row was matched to the budget of the baseline.

    Attributes:
        quantity: macs, params or latency.
        knob: key of ``mpvit.ablation.knobs.KNOBS``.
        amounts: the amount in each stage: channels, layers, or hidden channels of the MLP.
        off: remaining difference from the baseline, as a share of the baseline.
    """

    quantity: str
    knob: str
    amounts: tuple[int, ...]
    off: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network of an ablation.

    Attributes:
        values: the value on each axis; those of the baseline are its own.
        config: the network, already matched; None if a constraint forbids it.
        size: (height, width) of the images, in pixels.
        parts: the cost of each of ``PARTS``; empty if there is no network.
        saved_activation_bytes: bytes that autograd saves in a training step; None if the network cannot be trained.
        training_peak_bytes: peak memory of a training step with AdamW in float32; None if the network cannot be trained.
        untrainable: reason why the network cannot be trained; empty if it can.
        matched: how the row was matched to the baseline; None if it was not.
        time: latency of a forward pass; None if it was not measured.
        latency_ratio: latency over that of the baseline, from the rounds of the same run.
        accuracy: accuracy after training; None if the network was not trained.
        error: reason why there is no network, or no comparison with the baseline; empty if there is none.
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
        """The cost of the network; None if a constraint forbids it."""
        if not self.parts:
            return None
        parts = asdict(sum(self.parts.values(), Cost()))
        return NetworkCost(
            **parts, saved_activation_bytes=self.saved_activation_bytes, training_peak_bytes=self.training_peak_bytes
        )

    def as_row(self) -> dict[str, Any]:
        """Return the row as columns of a flat row; ``values`` and the parts remain mappings."""
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
            row |= self.time.as_row() | interval_row("latency_over_baseline", self.latency_ratio)
        if self.accuracy:
            row |= self.accuracy.as_row()
        return {**row, "error": self.error or (self.time.error if self.time else "") or None}


def by_part(parts: Mapping[str, Cost] | None, prefix: str = "") -> dict[str, dict[str, int] | None]:
    """Return each figure as a column that maps each part to a number; None if there are no parts."""
    return {
        f"{prefix}{figure}_by_part": {part: getattr(cost, figure) for part, cost in parts.items()} if parts else None
        for figure in Cost.figures()
    }

"""Results of ``mpvit bench``: times of networks and of their layers, as frozen values and flat rows."""

from dataclasses import dataclass
from typing import Any

from mpvit.benchmark.roofline import Ceilings, RooflinePoint
from mpvit.dense import Task
from mpvit.measurement import Interval, interval_row
from mpvit.operations import Shape

FORWARD, FORWARD_BACKWARD = "forward", "forward+backward"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTime:
    """The time of one network in one mode.

    Attributes:
        model: name of the network.
        input_shape: (B, C, H, W) of the image batch.
        mode: a key of ``modes.MODES``.
        passes: ``FORWARD`` in evaluation mode, or ``FORWARD_BACKWARD`` in training mode.
        difference: relative difference (norm over norm) of the output from that of the plain network in float32; None if it
            was not checked.
        speedup: how many times faster than ``speedup_over``, from the rounds of the same run; None for the first mode.
        speedup_over: the first mode of the run.
        baseline_speedup: how many times faster than the baseline; None if there is no such row.
        task: the detector or segmenter on the network; None for the classifier.
    """

    model: str
    input_shape: Shape
    mode: str
    passes: str
    timed: RooflinePoint
    difference: float | None = None
    speedup: Interval | None = None
    speedup_over: str | None = None
    baseline_speedup: Interval | None = None
    task: Task | None = None

    @property
    def images_per_s(self) -> float | None:
        """Throughput: the batch size over the median latency."""
        latency = self.timed.measurement.median_s
        return self.input_shape[0] / latency if latency else None

    def as_row(self) -> dict[str, Any]:
        """Return the time as one flat row for JSON and CSV."""
        return {
            "table": "networks",
            "model": self.model,
            **(self.task.as_row() if self.task else {}),
            "input_shape": list(self.input_shape),
            "batch": self.input_shape[0],
            "mode": self.mode,
            "pass": self.passes,
            **self.timed.as_row(),
            "images_per_s": self.images_per_s,
            "relative_difference": self.difference,
            **interval_row("speedup", self.speedup),
            "speedup_over": self.speedup_over,
            **interval_row("baseline_speedup", self.baseline_speedup),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """The time of one layer of a network, called separately with the input that it has in the network.

    Attributes:
        model: name of the network.
        input_shape: (B, C, H, W) of the image batch.
        part: name of the layer, the same for all paths and layers of a stage.
        kind: kind of the operation, or part of a transformer layer.
        calls: number of calls of such a layer with such an input in one forward pass.
        timed: the time and the work of one call.
        baseline_speedup: how many times faster than the baseline; None if there is no such row.
    """

    model: str
    input_shape: Shape
    part: str
    kind: str
    layer_input_shape: Shape
    calls: int
    timed: RooflinePoint
    baseline_speedup: Interval | None = None

    @property
    def total_s(self) -> float | None:
        """Median latency of all calls."""
        latency = self.timed.measurement.median_s
        return None if latency is None else self.calls * latency

    def as_row(self) -> dict[str, Any]:
        """Return the time as one flat row for JSON and CSV."""
        return {
            "table": "layers",
            "model": self.model,
            "input_shape": list(self.input_shape),
            "batch": self.input_shape[0],
            "mode": "plain",
            "pass": FORWARD,
            "part": self.part,
            "kind": self.kind,
            "layer_input_shape": list(self.layer_input_shape),
            "calls": self.calls,
            **self.timed.as_row(),
            "total_s": self.total_s,
            **interval_row("baseline_speedup", self.baseline_speedup),
        }


Result = NetworkTime | LayerTime


def ceiling_rows(ceilings: Ceilings) -> list[dict[str, Any]]:
    """Return the two ceilings as flat rows; the rates are those of the fastest samples."""
    product = {"macs": ceilings.product_macs, "ceiling_macs_per_s": ceilings.macs_per_s}
    copied = {"moved_bytes": ceilings.copy_bytes, "ceiling_bytes_per_s": ceilings.bytes_per_s}
    return [
        {"table": "ceilings", "part": measurement.name, **measurement.as_row(), **figures}
        for measurement, figures in ((ceilings.product, product), (ceilings.copy, copied))
    ]

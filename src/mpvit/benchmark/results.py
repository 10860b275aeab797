"""What ``mpvit bench`` answers: times of networks and of their layers, as frozen values and flat rows."""

from dataclasses import dataclass
from typing import Any

from mpvit.benchmark.roofline import Ceilings, Timed
from mpvit.dense import Task
from mpvit.measurement import Interval
from mpvit.operations import Shape

FORWARD, FORWARD_BACKWARD = "forward", "forward+backward"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTime:
    """One network in one mode.

    Attributes:
        model: name of the variant, or of the configuration's file.
        input_shape: (B, C, H, W) of the image batch.
        mode: how it ran: one of ``modes.MODES``.
        passes: ``FORWARD`` in evaluation mode, or ``FORWARD_BACKWARD`` in training mode.
        timed: the time and the work.
        difference: of the output from the plain network's in float32, norm over norm; None where it was not checked.
        speedup: how many times faster than ``speedup_over``, by rounds of the same run; None for the first mode.
        speedup_over: the run's first mode.
        baseline_speedup: how many times faster than an earlier run; None where that has no such row.
        task: the detector or segmenter that it is under; None for the network alone.
    """

    model: str
    input_shape: Shape
    mode: str
    passes: str
    timed: Timed
    difference: float | None = None
    speedup: Interval | None = None
    speedup_over: str | None = None
    baseline_speedup: Interval | None = None
    task: Task | None = None

    @property
    def images_per_s(self) -> float | None:
        """Throughput: the batch over the median latency."""
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
            **_timed_row(self.timed),
            "images_per_s": self.images_per_s,
            "relative_difference": self.difference,
            **_interval_row("speedup", self.speedup),
            "speedup_over": self.speedup_over,
            **_interval_row("baseline_speedup", self.baseline_speedup),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """One layer of a network, called on its own with the input that the network gives it.

    Attributes:
        model: name of the network.
        input_shape: (B, C, H, W) of the image batch.
        part: the layer, paths and layers of a stage taken together.
        kind: of the operation, or the part of a transformer layer.
        layer_input_shape: of the layer's own input.
        calls: how often one forward pass calls such a layer with such an input.
        timed: the time and the work of one call.
        baseline_speedup: how many times faster than an earlier run; None where that has no such row.
    """

    model: str
    input_shape: Shape
    part: str
    kind: str
    layer_input_shape: Shape
    calls: int
    timed: Timed
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
            **_timed_row(self.timed),
            "total_s": self.total_s,
            **_interval_row("baseline_speedup", self.baseline_speedup),
        }


Result = NetworkTime | LayerTime


def ceiling_rows(ceilings: Ceilings) -> list[dict[str, Any]]:
    """Return the two ceilings as flat rows; their rates are those of the fastest sample."""
    product = {"macs": ceilings.product_macs, "ceiling_macs_per_s": ceilings.macs_per_s}
    copied = {"moved_bytes": ceilings.copy_bytes, "ceiling_bytes_per_s": ceilings.bytes_per_s}
    return [
        {"table": "ceilings", "part": measurement.name, **measurement.as_row(), **figures}
        for measurement, figures in ((ceilings.product, product), (ceilings.copy, copied))
    ]


def _timed_row(timed: Timed) -> dict[str, Any]:
    return {
        **timed.measurement.as_row(),
        "macs": timed.work.macs,
        "moved_bytes": timed.work.moved_bytes,
        "macs_per_byte": timed.work.intensity,
        "macs_per_s": timed.macs_per_s,
        "bytes_per_s": timed.bytes_per_s,
        "ceiling_macs_per_s": timed.ceilings.macs_per_s,
        "ceiling_bytes_per_s": timed.ceilings.bytes_per_s,
        "share_of_matrix_product": timed.share_of_product,
        "share_of_copy": timed.share_of_copy,
        "share_of_roof": timed.share_of_roof,
    }


def _interval_row(name: str, interval: Interval | None) -> dict[str, float | None]:
    return {
        name: interval.estimate if interval else None,
        f"{name}_low": interval.low if interval else None,
        f"{name}_high": interval.high if interval else None,
    }

"""Measurements as one document: a table of ratios, a table of times, and the raw samples for machines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpvit.measurement import Interval, Measurement
from mpvit.measurement.estimates import paired_ratio
from mpvit.tables import Cell, Column, Document, Table

from .machine import facts
from .plan import Benchmark, Ratio

_RATIOS = (
    Column("Of"),
    Column("To"),
    Column("Ratio", numeric=True),
    Column("95 % interval", numeric=True),
    Column("At most", numeric=True),
    Column("Holds"),
)
_TIMES = (
    Column("Case"),
    Column("Median", numeric=True),
    Column("Shortest", numeric=True),
    Column("Longest", numeric=True),
    Column("Samples", numeric=True),
)

_UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))


@dataclass(frozen=True, slots=True)
class Measured:
    """A benchmark, and what each of its cases took."""

    benchmark: Benchmark
    measurements: tuple[Measurement, ...]

    def ratio(self, ratio: Ratio) -> Interval:
        """Return the median over the rounds."""
        samples = {measurement.name: measurement.samples_s for measurement in self.measurements}
        above = samples[ratio.of]
        return paired_ratio(above, samples[ratio.to] if isinstance(ratio.to, str) else [ratio.to] * len(above))


def document(command: str, measured: Mapping[str, Measured]) -> Document:
    """Return what ``command`` measured, benchmark by benchmark."""
    ratios = [_ratio_row(ratio, found.ratio(ratio)) for found in measured.values() for ratio in found.benchmark.ratios]
    times = [_time_row(measurement) for found in measured.values() for measurement in found.measurements]
    reading = (
        "A ratio is the median over rounds in which every case took one sample; a time is of one call. Other machines take "
        "other times: the ratios are what counts."
    )
    notes = (f"Made by `{command}`. {facts()}.", reading)
    tables = (Table("Ratios", _RATIOS, tuple(ratios)), Table("Times", _TIMES, tuple(times)))
    results = [row for name, found in measured.items() for row in _results(name, found)]
    return Document("benchmarks", tuple(results), tables, notes)


def _ratio_row(ratio: Ratio, found: Interval) -> tuple[Cell, ...]:
    limit = "–" if ratio.at_most is None else f"{ratio.at_most:g}"
    holds = "" if ratio.at_most is None else "✓" if found.estimate <= ratio.at_most else "✗"
    to = ratio.to if isinstance(ratio.to, str) else _seconds(ratio.to)
    return (ratio.of, to, f"{found.estimate:.3g}", f"{found.low:.3g} to {found.high:.3g}", limit, holds)


def _time_row(measurement: Measurement) -> tuple[Cell, ...]:
    samples = measurement.samples_s
    times = (measurement.median_s or 0.0, min(samples), max(samples))
    return (measurement.name, *(_seconds(time) for time in times), len(samples))


def _results(name: str, found: Measured) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"benchmark": name, "case": time.name, **time.as_row()} for time in found.measurements]
    for ratio in found.benchmark.ratios:
        interval = found.ratio(ratio)
        rows.append(
            {
                "benchmark": name,
                "of": ratio.of,
                "to": ratio.to,
                "ratio": interval.estimate,
                "ratio_low": interval.low,
                "ratio_high": interval.high,
                "at_most": ratio.at_most,
            }
        )
    return rows


def _seconds(time: float) -> str:
    unit, factor = next(((unit, factor) for unit, factor in _UNITS if time * factor >= 1), _UNITS[-1])
    return f"{time * factor:.3g} {unit}"

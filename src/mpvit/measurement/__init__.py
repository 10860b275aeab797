"""Measurements: raw samples, how they were taken, and warnings about them. Plain data, without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

OUT_OF_MEMORY = "out of memory"
"""Beginning of the ``error`` of a case for which there was too little memory."""

INTERRUPTED = "interrupted"
BUDGET = "the time budget was used up"

WARNINGS = {
    "outliers": "many samples lie far from the others: close other programs, or raise the minimum time",
    "few_samples": "too few samples for a meaningful interval: raise the minimum time or the budget",
    "slow_start": "the first samples are slower than the rest, the warm-up was too short: raise the minimum time",
    "short_samples": "samples are near the resolution of the clock: give each call more to do (a larger batch or size)",
}
"""Warnings about a measurement, each with its remedy."""

CONFIDENCE = 0.95
"""Confidence level of the intervals."""

MIN_SAMPLES = 5
"""Number of samples below which an interval means little."""

MIN_SAMPLE_S = 1e-4
"""Shortest sample that does not cause a warning, in seconds: a thousand times the cost of reading the clock."""

_OUTLIER_SCORE = 3.5
"""Modified z-score of an outlier: Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993), section 3.3."""

_OUTLIER_SHARE = 0.1
"""Share of outliers above which there is a warning."""

_NORMAL_QUARTILE = 0.6745
"""Median absolute deviation of the standard normal distribution."""

_SLOW_START = 1.1
"""Ratio of the first samples to the others above which the start is slow."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence interval, whose level is ``confidence``."""

    estimate: float
    low: float
    high: float
    confidence: float = CONFIDENCE


def interval_row(name: str, interval: Interval | None) -> dict[str, float | None]:
    """Return an interval as three columns of a flat row: ``name``, ``name_low`` and ``name_high``."""
    ends = (interval.estimate, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The samples of one case that ``mpvit.measurement.timing.run`` has timed.

    Attributes:
        name: name of the case.
        samples_s: seconds per call; the i-th samples of all cases of a run were taken in the same round.
        warmup_runs: number of calls before the first sample.
        repetitions: number of calls in one sample.
        device: torch's name of the device.
        dtype: data type, such as float32; empty if there is none.
        threads: CPU threads of one operation.
        peak_bytes: peak memory of torch's allocator during one call, above what was allocated before; None if unknown.
        error: reason why the case failed; empty if it did not.
        stopped: reason why there are fewer samples than requested (``BUDGET``, ``INTERRUPTED``); empty if there are not.
    """

    name: str
    samples_s: tuple[float, ...] = ()
    warmup_runs: int = 0
    repetitions: int = 1
    device: str
    dtype: str = ""
    threads: int
    peak_bytes: int | None = None
    error: str = ""
    stopped: str = ""

    @property
    def median_s(self) -> float | None:
        """Median seconds per call; None without samples."""
        return median(self.samples_s) if self.samples_s else None

    @property
    def quartiles_s(self) -> tuple[float, float] | None:
        """Lower and upper quartile of the seconds per call; None without samples."""
        if not self.samples_s:
            return None
        if len(self.samples_s) == 1:
            return self.samples_s[0], self.samples_s[0]
        lower, _, upper = quantiles(self.samples_s, n=4, method="inclusive")
        return lower, upper

    @property
    def out_of_memory(self) -> bool:
        """Whether the case failed because memory ran out."""
        return self.error.startswith(OUT_OF_MEMORY)

    @property
    def failed(self) -> bool:
        """Whether the case failed for any other reason."""
        return bool(self.error) and not self.out_of_memory

    @property
    def interrupted(self) -> bool:
        """Whether the user stopped the run before this case was done."""
        return self.stopped == INTERRUPTED

    @property
    def warnings(self) -> tuple[str, ...]:
        """Names of the ``WARNINGS`` that apply to the samples."""
        if not self.samples_s:
            return ()
        applies = {
            "outliers": outlier_share(self.samples_s) > _OUTLIER_SHARE,
            "few_samples": len(self.samples_s) < MIN_SAMPLES,
            "slow_start": has_slow_start(self.samples_s),
            "short_samples": median(self.samples_s) * self.repetitions < MIN_SAMPLE_S,
        }
        return tuple(name for name in WARNINGS if applies[name])

    def as_row(self) -> dict[str, Any]:
        """Return the measurement as columns of a flat row."""
        lower, upper = self.quartiles_s or (None, None)
        return {
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
            "latency_s": self.median_s,
            "latency_q1_s": lower,
            "latency_q3_s": upper,
            "peak_bytes": self.peak_bytes,
            "samples_s": list(self.samples_s),
            "repetitions": self.repetitions,
            "warmup_runs": self.warmup_runs,
            "warnings": ", ".join(self.warnings),
            "stopped": self.stopped or None,
            "error": self.error or None,
        }


def outlier_share(samples: Sequence[float]) -> float:
    """Return the share of samples with a modified z-score above 3.5, in [0, 1]; 0 if more than half of them are equal."""
    middle = median(samples)
    deviations = [abs(sample - middle) for sample in samples]
    spread = median(deviations)
    return sum(_NORMAL_QUARTILE * deviation > _OUTLIER_SCORE * spread for deviation in deviations if spread) / len(samples)


def has_slow_start(samples: Sequence[float]) -> bool:
    """Return whether the median of the first fifth of at least ten samples is high.

    High means a tenth above the median of the other samples, and above their upper quartile.
    """
    first, rest = samples[: len(samples) // 5], samples[len(samples) // 5 :]
    enough = 10
    return len(samples) >= enough and median(first) > max(_SLOW_START * median(rest), quantiles(rest)[2])

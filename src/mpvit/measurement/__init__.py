"""What one timed case gave: its raw samples, how they were taken, and what to distrust in them. Plain data, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median, quantiles
from typing import Any

from mpvit.errors import UsageError

OUT_OF_MEMORY = "out of memory"
"""How the ``error`` of a case that needed more memory than there is starts."""

INTERRUPTED = "interrupted"
BUDGET = "the time budget was used up"

WARNINGS = {
    "outliers": "many samples lie far from the others: close other programs, or measure longer (--min-time)",
    "few_samples": "too few samples for an interval to mean much: measure longer (--min-time, --budget)",
    "slow_start": "the first samples are slower than the rest: the warm-up was too short, measure longer (--min-time)",
    "short_samples": "samples are near the clock's resolution: give each call more to do (a larger batch or size)",
}
"""Everything that a measurement warns of, with its remedy."""

DTYPES = ("float32", "bfloat16", "float16")
"""What networks and attention are measured in."""

MOST_THREADS = 1024
"""More CPU threads than any machine has are a slip of the hand."""

CONFIDENCE = 0.95
"""Of the intervals."""

FEW_SAMPLES = 5
SHORTEST_SAMPLE_S = 1e-4
"""A thousand times what reading the clock costs."""

_OUTLIER_SCORE = 3.5
"""Of the modified z-score: Iglewicz and Hoaglin, "How to Detect and Handle Outliers" (1993), section 3.3."""

_OUTLIER_SHARE = 0.1
_NORMAL_QUARTILE = 0.6745
"""Median absolute deviation of the standard normal distribution."""

_SLOW_START = 1.1


def require_threads(threads: int | None) -> None:
    """Raise ``UsageError`` for a number of CPU threads that there is not; None is torch's own choice."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"threads = {threads}: must be from 1 to {MOST_THREADS}")


def require_seconds(field: str, seconds: float) -> None:
    """Raise ``UsageError`` for a time, named ``field``, that nothing can take."""
    if not (seconds > 0 and isfinite(seconds)):
        raise UsageError(f"{field} = {seconds}: must be a number of seconds above 0")


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval, as a share of repetitions of the measurement that ``confidence`` names."""

    estimate: float
    low: float
    high: float
    confidence: float = CONFIDENCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One case of a run of the harness (``mpvit.measurement.timing``).

    Attributes:
        name: the case's.
        samples_s: seconds per call; the i-th of every case of a run was taken in its i-th round.
        warmup_runs: calls before the first sample.
        repetitions: calls in a sample.
        device: torch's name of it.
        dtype: as the caller says, such as float32.
        threads: CPU threads of one operation.
        peak_bytes: the most that torch's allocator held at once during one call, above what it held before; None if unknown.
        error: why the case failed; empty where it did not.
        stopped: why there are fewer samples than were asked for (``BUDGET``, ``INTERRUPTED``); empty where there are not.
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
        """Whether the case failed for lack of memory."""
        return self.error.startswith(OUT_OF_MEMORY)

    @property
    def failed(self) -> bool:
        """Whether the case failed for another reason than lack of memory."""
        return bool(self.error) and not self.out_of_memory

    @property
    def interrupted(self) -> bool:
        """Whether a person stopped the run before this case was done."""
        return self.stopped == INTERRUPTED

    @property
    def warnings(self) -> tuple[str, ...]:
        """Names of the ``WARNINGS`` that hold of the samples."""
        if not self.samples_s:
            return ()
        holds = {
            "outliers": outlier_share(self.samples_s) > _OUTLIER_SHARE,
            "few_samples": len(self.samples_s) < FEW_SAMPLES,
            "slow_start": starts_slow(self.samples_s),
            "short_samples": median(self.samples_s) * self.repetitions < SHORTEST_SAMPLE_S,
        }
        return tuple(name for name in WARNINGS if holds[name])

    def as_row(self) -> dict[str, Any]:
        """Return the measurement as the part of a flat row that it fills."""
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
    """Return the share, in [0, 1], of samples whose modified z-score is beyond 3.5; 0 where more than half are equal."""
    middle = median(samples)
    deviations = [abs(sample - middle) for sample in samples]
    spread = median(deviations)
    return sum(_NORMAL_QUARTILE * deviation > _OUTLIER_SCORE * spread for deviation in deviations if spread) / len(samples)


def starts_slow(samples: Sequence[float]) -> bool:
    """Tell whether the first fifth of ten or more samples is slower, by a tenth and beyond the upper quartile of the rest."""
    first, rest = samples[: len(samples) // 5], samples[len(samples) // 5 :]
    enough = 10
    return len(samples) >= enough and median(first) > max(_SLOW_START * median(rest), quantiles(rest)[2])

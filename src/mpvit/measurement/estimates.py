"""Ratios, growth exponents and crossovers of measured latencies, each with a bootstrap confidence interval.

The bootstrap resamples with replacement (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3:
percentile intervals). Its interval covers the noise between samples, not other effects such as caches and memory layout. Its
random generator is seeded, so the same samples give the same interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mpvit.errors import UsageError
from mpvit.measurement import CONFIDENCE, Interval

Floats = NDArray[np.float64]

RESAMPLES = 2000

MIN_POINTS = 3
"""Minimum number of points through which a slope is fitted."""

OVERHEAD_SHARE = 0.1
"""Maximum share of fixed overhead in the latencies through which a slope is fitted."""

_EXPONENTS = np.arange(0.1, 3.01, 0.05)
"""Candidate exponents p of the fit a + b·N^p."""

_SEED = 0


@dataclass(frozen=True, slots=True)
class GrowthExponent:
    """The exponent of N with which latency grows, and the sizes N of its fit, which lie beyond the overhead plateau."""

    exponent: Interval
    sizes: tuple[int, ...]


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Interval:
    """Return the median over the rounds of numerator / denominator, for interleaved samples of one run.

    Rounds without a sample of both are left out. Raises ``UsageError`` if no round remains.
    """
    rounds = min(len(numerator), len(denominator))
    _require_samples(rounds)
    ratios = np.asarray(numerator[:rounds]) / np.asarray(denominator[:rounds])
    return _interval(float(np.median(ratios)), _resampled_medians(ratios, np.random.default_rng(_SEED)))


def independent_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Interval:
    """Return the ratio of the medians, for samples of two runs; raise ``UsageError`` if either has no sample."""
    _require_samples(min(len(numerator), len(denominator)))
    random = np.random.default_rng(_SEED)
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    resampled = _resampled_medians(above, random) / _resampled_medians(below, random)
    return _interval(float(np.median(above) / np.median(below)), resampled)


def growth_exponent(sizes: Sequence[int], samples: Sequence[Sequence[float]]) -> GrowthExponent | None:
    """Return the Theil-Sen slope of log(median latency) over log(N), for the sizes beyond the overhead plateau.

    ``samples[i]`` are the latencies at N = ``sizes[i]``, in ascending order of N. Return None if fewer than three sizes lie
    beyond the plateau. Source: Sen, "Estimates of the Regression Coefficient Based on Kendall's Tau", JASA 63 (1968).
    """
    _require_curve(sizes, samples)
    first = plateau_end(sizes, [float(np.median(at)) for at in samples])
    if len(sizes) - first < MIN_POINTS:
        return None
    kept, logs = sizes[first:], np.log(np.asarray(sizes[first:], dtype=np.float64))
    medians = np.array([np.median(at) for at in samples[first:]])
    random = np.random.default_rng(_SEED)
    resampled = np.stack([_resampled_medians(np.asarray(at), random) for at in samples[first:]], axis=1)
    exponent = float(_theil_sen(logs, np.log(medians)[None])[0])
    return GrowthExponent(_interval(exponent, _theil_sen(logs, np.log(resampled))), tuple(kept))


def plateau_end(sizes: Sequence[int], latencies: Sequence[float]) -> int:
    """Return the index of the first size after which the fixed overhead is at most a tenth of every latency.

    The overhead is ``a`` in the fit a + b·N^p with the least relative squared error, where a, b >= 0.
    """
    share = _overhead(np.asarray(sizes, dtype=np.float64), np.asarray(latencies, dtype=np.float64)) / np.asarray(latencies)
    above = np.flatnonzero(share > OVERHEAD_SHARE)
    return int(above[-1]) + 1 if len(above) else 0


def crossover(sizes: Sequence[int], first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Interval | None:
    """Return the N above which ``first`` is slower than ``second`` at every measured size; None if there is none.

    Both hold the latencies at each of the ascending ``sizes``. Between sizes, log(latency) is interpolated linearly in
    log(N). The interval is clipped to the measured sizes.
    """
    for samples in (first, second):
        _require_curve(sizes, samples)
    logs = np.log(np.asarray(sizes, dtype=np.float64))
    difference = np.array([np.log(np.median(a) / np.median(b)) for a, b in zip(first, second, strict=True)])
    estimate = float(_last_root(logs, difference[None])[0])
    if not np.isfinite(estimate):
        return None
    random = np.random.default_rng(_SEED)
    above, below = ([_resampled_medians(np.asarray(at), random) for at in samples] for samples in (first, second))
    resampled = _last_root(logs, np.log(np.stack(above, axis=1) / np.stack(below, axis=1)))
    return _interval(float(np.exp(estimate)), np.exp(np.clip(resampled, logs[0], logs[-1])))


def _interval(estimate: float, resampled: Floats) -> Interval:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return Interval(estimate, float(low), float(high))


def _resampled_medians(samples: Floats, random: np.random.Generator) -> Floats:
    """Map (samples,) -> (resamples,)."""
    drawn = random.integers(0, len(samples), (RESAMPLES, len(samples)))
    return np.median(samples[drawn], axis=1)


def _theil_sen(x: Floats, y: Floats) -> Floats:
    """Map (points,) and (curves, points) -> (curves,): the median slope over all pairs of points."""
    low, high = np.triu_indices(len(x), 1)
    return np.median((y[:, high] - y[:, low]) / (x[high] - x[low]), axis=1)


def _overhead(sizes: Floats, latencies: Floats) -> float:
    """Return a of the best fit a + b·N^p with a, b >= 0, by least squares of the relative error for each p."""
    best, overhead = np.inf, 0.0
    for exponent in _EXPONENTS:
        growing = (sizes / sizes[-1]) ** exponent
        design = np.stack([1 / latencies, growing / latencies], axis=1)
        (fixed, factor), *_ = np.linalg.lstsq(design, np.ones_like(latencies))
        if factor < 0:  # the curve falls: all of it is plateau
            fixed, factor = _single_factor(design[:, 0]), 0.0
        elif fixed < 0:
            fixed, factor = 0.0, _single_factor(design[:, 1])
        error = float(np.sum((design @ (fixed, factor) - 1) ** 2))
        if error < best:
            best, overhead = error, float(fixed)
    return overhead


def _single_factor(column: Floats) -> float:
    """Return the least-squares factor from one column to ones."""
    return float(column.sum() / (column @ column))


def _last_root(x: Floats, y: Floats) -> Floats:
    """Map (points,) and (curves, points) -> (curves,): the x at which each curve last rises through 0.

    It is -inf for a curve that is always above 0, and inf for a curve that ends at or below 0.
    """
    below = y <= 0
    index = y.shape[1] - 1 - np.argmax(below[:, ::-1], axis=1)  # the last point at or below 0
    left = np.minimum(index, y.shape[1] - 2)
    curve = np.arange(len(y))
    rise = y[curve, left + 1] - y[curve, left]
    with np.errstate(divide="ignore", invalid="ignore"):  # only in values that the next lines replace
        root = x[left] - y[curve, left] * (x[left + 1] - x[left]) / rise
    root = np.where(below[:, -1], np.inf, root)
    return np.where(below.any(axis=1), root, -np.inf)


def _require_samples(count: int) -> None:
    if count < 1:
        raise UsageError("no samples to compare: there must be at least 1 of each", hint="measure for more time")


def _require_curve(sizes: Sequence[int], samples: Sequence[Sequence[float]]) -> None:
    if len(sizes) != len(samples) or len(sizes) < 2 or any(a >= b for a, b in pairwise(sizes)):  # noqa: PLR2004
        raise UsageError(f"sizes = {list(sizes)}: must be at least two, ascending, with samples for each")
    for at in samples:
        _require_samples(len(at))

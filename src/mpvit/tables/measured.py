"""Measurements as people read them: three digits, quartiles, intervals, and what to distrust."""

from collections.abc import Iterator, Sequence

from mpvit.measurement import WARNINGS, Interval, Measurement


def number_text(number: float | None, digits: str = ".3g", factor: float = 1) -> str | None:
    """Return ``factor`` times a number in as many digits, 1.23e+03 as 1230; None for None."""
    if number is None:
        return None
    text = f"{factor * number:{digits}}"
    return f"{float(text):.0f}" if "e+" in text else text


def milliseconds(seconds: float | None) -> str | None:
    """Return seconds as milliseconds, in three digits."""
    return number_text(seconds, factor=1e3)


def quartiles(measurement: Measurement) -> str | None:
    """Return the quartiles of the latency in milliseconds: 1.20 to 1.26."""
    pair = measurement.quartiles_s
    return None if pair is None else f"{milliseconds(pair[0])} to {milliseconds(pair[1])}"


def interval_text(interval: Interval | None) -> str | None:
    """Return a ratio with its interval: 1.23 (1.20–1.26)."""
    return None if interval is None else f"{interval.estimate:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def warnings(measurements: Sequence[Measurement]) -> Iterator[str]:
    """Yield each warning that holds of some measurements, with how many they are and what to do."""
    for name, advice in WARNINGS.items():
        if warned := sum(name in measurement.warnings for measurement in measurements):
            yield f"{warned} of {len(measurements)} measurements: {advice}"

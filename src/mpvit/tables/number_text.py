"""Numbers as people read them: rounded, in percent, with a sign, an interval or a unit; and warnings about measurements."""

from collections.abc import Iterator, Sequence

from mpvit.measurement import WARNINGS, Interval, Measurement
from mpvit.training.metrics import Interval as ShareInterval
from mpvit.training.metrics import wilson
from mpvit.units import BYTES, grouped


def number_text(number: float | None, digits: str = ".3g", factor: float = 1) -> str | None:
    """Return ``factor`` times a number in the format ``digits``, never with a positive exponent: 1230 instead of 1.23e+03."""
    if number is None:
        return None
    text = f"{factor * number:{digits}}"
    return f"{float(text):.0f}" if "e+" in text else text


def bytes_text(number: int) -> str:
    """Return bytes in the largest binary unit of which there is at least one, as 109.34 MiB; below 1 KiB exactly."""
    unit = next((name for name in ("TiB", "GiB", "MiB", "KiB") if number >= BYTES[name]), "B")
    return f"{number} B" if unit == "B" else f"{number / BYTES[unit]:.2f} {unit}"


def signed(amount: int) -> str:
    """Return a difference with its sign: +1 234, −1 234, 0."""
    return "0" if amount == 0 else f"{'+' if amount > 0 else '−'}{grouped(abs(amount))}"


def signed_percent(share: float, digits: int) -> str:
    """Return a difference in percent with its sign: −12.3."""
    return f"{100 * share:+.{digits}f}".replace("-", "−")


def ratio_text(ratio: float) -> str:
    """Return how many times larger a number is than another: 392×, 0.82×."""
    if ratio == int(ratio):
        return f"{grouped(int(ratio))}×"
    if ratio < 1:
        return f"{ratio:.2g}×"
    small = 10
    return f"{ratio:.2f}×" if ratio < small else f"{ratio:,.1f}×".replace(",", " ")


def interval_text(interval: Interval | None) -> str | None:
    """Return a ratio with its interval: 1.23 (1.20–1.26)."""
    return None if interval is None else f"{interval.estimate:.2f} ({interval.low:.2f}–{interval.high:.2f})"


def percent(share: float) -> str:
    """Return a share in percent: 98.61 %."""
    return f"{100 * share:.2f} %"


def percent_interval(share: float, interval: ShareInterval) -> str:
    """Return a share in percent with an interval: 98.61 % (96.79–99.40)."""
    low, high = interval
    return f"{percent(share)} ({100 * low:.2f}–{100 * high:.2f})"


def share_text(correct: int, images: int) -> str:
    """Return the share of ``correct`` images in percent, with Wilson's interval: 98.61 % (96.79–99.40)."""
    return percent_interval(correct / images, wilson(correct, images))


def milliseconds(seconds: float | None) -> str | None:
    """Return seconds as milliseconds, in three digits."""
    return number_text(seconds, factor=1e3)


def quartiles(measurement: Measurement | None) -> str | None:
    """Return the quartiles of the latency in milliseconds: 1.20 to 1.26."""
    pair = measurement.quartiles_s if measurement else None
    return None if pair is None else f"{milliseconds(pair[0])} to {milliseconds(pair[1])}"


def median(measurement: Measurement | None) -> str | None:
    """Return the median latency in milliseconds."""
    return milliseconds(measurement.median_s) if measurement else None


def ran_on(measurement: Measurement | None) -> tuple[str | None, int | None, str | None]:
    """Return the device, threads and dtype of a measurement, for a ``Document``."""
    return (measurement.device, measurement.threads, measurement.dtype) if measurement else (None, None, None)


def trouble(measurement: Measurement | None) -> str:
    """Return why a measurement failed or stopped early; empty if neither."""
    return measurement.error or measurement.stopped if measurement else ""


def warnings(measurements: Sequence[Measurement]) -> Iterator[str]:
    """Yield each warning that applies to some of the measurements, with their number and advice."""
    for name, advice in WARNINGS.items():
        if warned := sum(name in measurement.warnings for measurement in measurements):
            yield f"{warned} of {len(measurements)} measurements: {advice}"

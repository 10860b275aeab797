"""Accuracies of networks trained alike, compared with a baseline, with intervals over seeds."""

from collections.abc import Iterator

from mpvit.ablation.results import Row
from mpvit.ablation.study import Ablation
from mpvit.training.metrics import AccuracyComparison


def accuracy_text(accuracy: AccuracyComparison, digits: int = 2) -> str:
    """Return the mean with half of its interval, in percent: "61.20 ± 1.25"."""
    return f"{100 * accuracy.mean:.{digits}f}{_half(accuracy.half, digits)}"


def points_text(accuracy: AccuracyComparison | None, digits: int = 2) -> str | None:
    """Return the difference from the baseline with half of its interval, in points: "+1.20 ± 0.80"."""
    if accuracy is None:
        return None
    return f"{100 * accuracy.delta:+.{digits}f}{_half(accuracy.delta_half, digits)}".replace("-", "−")


def _half(half: float | None, digits: int) -> str:
    return "" if half is None else f" ± {100 * half:.{digits}f}"


def accuracy_note(images: int, seeds: int) -> str:
    """Return what the columns of accuracies mean."""
    if seeds == 1:
        return f"top-1: percent of {images} held-out images, from one seed, so without an interval."
    return (
        f"top-1: percent of {images} held-out images, mean of {seeds} seeds. ±: Student's 95 % interval over seeds, on these "
        "images; that of Δ is paired by seed."
    )


def conclusions(found: Ablation) -> Iterator[str]:
    """Yield one sentence that sorts the rows by verdict against the baseline; nothing if there is one seed."""
    own = found.baseline.accuracy
    if own is None or own.delta_half is None:
        return
    rows = [row for row in found.rows if row.accuracy and not is_baseline(found, row)]
    named = {
        verdict: [_named(row) for row in rows if row.accuracy and row.accuracy.verdict == verdict]
        for verdict in ("better", "worse", "no difference seen")
    }
    groups = [f"{verdict}: {', '.join(names)}" for verdict, names in named.items() if names]
    if groups:
        yield f"Compared with {_values(found.baseline)} ({accuracy_text(own)} %), {'; '.join(groups)}."


def is_baseline(found: Ablation, row: Row) -> bool:
    """Tell whether a row is the baseline, or has the same network and image size."""
    return (row.config, row.size) == (found.baseline.config, found.baseline.size)


def training_seconds(found: Ablation) -> float:
    """Return the duration of all runs together; a network that has two rows was trained once."""
    return sum({(row.config, row.size): row.accuracy.seconds for row in (found.baseline, *found.rows) if row.accuracy}.values())


def _named(row: Row) -> str:
    return f"{_values(row)} ({points_text(row.accuracy)})"


def _values(row: Row) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in row.values.items())

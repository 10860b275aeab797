"""What networks that were trained alike came to, in words: beside one another, with intervals over seeds."""

from collections.abc import Iterator

from mpvit.ablation.results import Row
from mpvit.ablation.study import Ablation
from mpvit.training.comparison import Accuracy

VERDICTS = ("better", "worse", "no difference seen")


def accuracy_text(accuracy: Accuracy, digits: int = 2) -> str:
    """Return the mean with half of its interval, in percent: "61.20 ± 1.25"."""
    return f"{100 * accuracy.mean:.{digits}f}{_half(accuracy.half, digits)}"


def points_text(accuracy: Accuracy, digits: int = 2) -> str:
    """Return the difference from the baseline likewise, in points: "+1.20 ± 0.80"."""
    return f"{100 * accuracy.delta:+.{digits}f}{_half(accuracy.delta_half, digits)}".replace("-", "−")


def verdict_text(accuracy: Accuracy | None) -> str:
    """Return what the difference says; nothing where nothing was trained."""
    return accuracy.verdict if accuracy else ""


def _half(half: float | None, digits: int) -> str:
    return "" if half is None else f" ± {100 * half:.{digits}f}"


def accuracy_note(images: int, seeds: int) -> str:
    """Return what the columns are."""
    if seeds == 1:
        return f"top-1 in percent of {images} pictures held out, of one seed: that has no interval."
    return (
        f"top-1 in percent of {images} pictures held out, mean of {seeds} seeds; ±: Student's 95 % interval over seeds, on "
        "these pictures, of Δ paired by seed."
    )


def conclusions(found: Ablation) -> Iterator[str]:
    """Yield what the rows say beside the baseline, in a sentence that follows from their intervals; nothing of one seed."""
    own = found.baseline.accuracy
    if own is None or own.delta_half is None:
        return
    named = {
        verdict: [_named(row) for row in found.rows if not is_baseline(found, row) and verdict_text(row.accuracy) == verdict]
        for verdict in VERDICTS
    }
    said = [f"{verdict}: {', '.join(rows)}" for verdict, rows in named.items() if rows]
    if said:
        baseline = ", ".join(f"{axis} {value}" for axis, value in found.baseline.values.items())
        yield f"Beside {baseline} ({accuracy_text(own)} %), {'; '.join(said)}."


def is_baseline(found: Ablation, row: Row) -> bool:
    """Tell whether a row is the baseline, or its network once more."""
    return (row.config, row.size) == (found.baseline.config, found.baseline.size)


def _named(row: Row) -> str:
    points = points_text(row.accuracy) if row.accuracy else ""
    return f"{', '.join(f'{axis} {value}' for axis, value in row.values.items())} ({points})"


def seconds_of(found: Ablation) -> float:
    """Return how long all runs took, each network's once."""
    return sum({(row.config, row.size): row.accuracy.seconds for row in (found.baseline, *found.rows) if row.accuracy}.values())

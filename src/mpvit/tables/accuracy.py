"""What networks that were trained alike came to, in words: beside one another, with intervals over seeds."""

from collections.abc import Iterator

from mpvit.ablation.results import Row
from mpvit.ablation.study import Ablation
from mpvit.training.comparison import Accuracy

VERDICTS = ("better", "worse", "no difference seen")


def accuracy_text(accuracy: Accuracy | None) -> str | None:
    """Return the mean with half of its interval, in percent: "61.20 ± 1.25"; None where nothing was trained."""
    return None if accuracy is None else f"{100 * accuracy.mean:.2f}{_half(accuracy.half)}"


def points_text(accuracy: Accuracy | None) -> str | None:
    """Return the difference from the baseline likewise, in points: "+1.20 ± 0.80"."""
    return None if accuracy is None else f"{100 * accuracy.delta:+.2f}{_half(accuracy.delta_half)}".replace("-", "−")


def _half(half: float | None) -> str:
    return "" if half is None else f" ± {100 * half:.2f}"


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
    named = {verdict: [_named(row) for row in _others(found) if _verdict(row) == verdict] for verdict in VERDICTS}
    said = [f"{verdict}: {', '.join(rows)}" for verdict, rows in named.items() if rows]
    if said:
        baseline = ", ".join(f"{axis} {value}" for axis, value in found.baseline.values.items())
        yield f"Beside {baseline} ({accuracy_text(own)} %), {'; '.join(said)}."


def _others(found: Ablation) -> list[Row]:
    """Return the rows that are not the baseline's network once more."""
    return [row for row in found.rows if row.config != found.baseline.config or row.size != found.baseline.size]


def _verdict(row: Row) -> str:
    return row.accuracy.verdict if row.accuracy else ""


def _named(row: Row) -> str:
    return f"{', '.join(f'{axis} {value}' for axis, value in row.values.items())} ({points_text(row.accuracy)})"

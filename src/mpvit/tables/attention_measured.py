"""Attention as it was measured: at each N, how it grows, where kinds cross, and what half precision does to them."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise

from mpvit.compare_attention.results import (
    AttentionPoint,
    Crossing,
    Growth,
    ImpliedMap,
    RoundingError,
)
from mpvit.measurement import WARNINGS
from mpvit.tables import Column, Document, Field, Table, build
from mpvit.tables.attention import widths_text
from mpvit.tables.measured import milliseconds, quartiles
from mpvit.units import grouped

_STRAIGHT = 0.1
"""How far a measured exponent may be from the predicted one before it needs a word."""


def measured_document(
    points: Sequence[AttentionPoint], growths: Sequence[Growth], crossings: Sequence[Crossing], notes: Sequence[str] = ()
) -> Document:
    """Return what was measured at each N, how it grows, and where each kind overtakes full attention."""
    first = points[0]
    where = f"{first.measurement.device}, {first.measurement.threads} threads, {first.measurement.dtype}"
    tables = [
        build(f"Measured on {where}; {widths_text(first.cost)}", _POINT, points),
        build("Growth of latency with N, Theil-Sen beyond the overhead plateau, 95 % interval", _GROWTH, growths),
        build("The N above which a kind is faster than full attention, 95 % interval", _CROSSING, crossings),
    ]
    results = [{"table": "points", **point.as_row()} for point in points]
    results += [{"table": "growth", **asdict(fit)} for fit in growths]
    results += [{"table": "crossover", **asdict(crossing)} for crossing in crossings]
    said = [
        *notes,
        *_bends(points, growths),
        *(f"{what}: {advice}" for what, advice in WARNINGS.items() if _warned(points, what)),
    ]
    said += _left_out(points)
    m = first.measurement
    return Document("compare-attn", tuple(results), tuple(tables), tuple(said), m.device, m.threads, m.dtype)


def _bends(points: Sequence[AttentionPoint], growths: Sequence[Growth]) -> list[str]:
    """Say, of each kind that does not grow as its multiply-adds do, at which step it grew the most beyond them."""
    said = []
    for fit in growths:
        if fit.exponent is None or fit.predicted is None or abs(fit.exponent - fit.predicted) <= _STRAIGHT:
            continue
        curve = [point for point in points if point.cost.label == fit.label and point.cost.tokens in fit.tokens]
        a, b = max(pairwise(curve), key=lambda step: _excess(*step))
        growth = (b.measurement.median_s or 0) / (a.measurement.median_s or 1)
        memory = [(point.measurement.peak_bytes or 0) / 1e6 for point in (a, b)]
        said.append(
            f"{fit.label}: measured N^{fit.exponent:.2f}, predicted N^{fit.predicted:.2f}. It departs most from "
            f"N = {grouped(a.cost.tokens)} to {grouped(b.cost.tokens)}: {growth:.1f} times the time for "
            f"{b.cost.macs / a.cost.macs:.1f} times the multiply-adds, peak memory from {memory[0]:.1f} to {memory[1]:.1f} MB."
        )
    return said


def _excess(a: AttentionPoint, b: AttentionPoint) -> float:
    """Return the growth of time from ``a`` to ``b`` over that of multiply-adds."""
    return (b.measurement.median_s or 0) / (a.measurement.median_s or 1) * a.cost.macs / b.cost.macs


def _warned(points: Sequence[AttentionPoint], what: str) -> bool:
    return any(what in point.measurement.warnings for point in points)


def _left_out(points: Sequence[AttentionPoint]) -> list[str]:
    """Say, for each kind and reason, at which N it was not measured or not to the end."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for point in points:
        reason = point.measurement.error or point.measurement.stopped
        if reason:
            reasons.setdefault((point.cost.label, reason.partition(":")[0]), []).append(grouped(point.cost.tokens))
    return [f"{label}: {reason} at N = {', '.join(tokens)}" for (label, reason), tokens in reasons.items()]


def _interval(estimate: float | None, low: float | None, high: float | None, digits: str) -> str | None:
    return None if estimate is None else f"{estimate:{digits}} ({low:{digits}} to {high:{digits}})"


def _crossing_text(crossing: Crossing) -> str:
    if crossing.tokens is None:
        return "always faster" if crossing.always else "not among these N"
    return f"{crossing.tokens:.0f} ({crossing.low:.0f} to {crossing.high:.0f})"


_POINT: tuple[Field[AttentionPoint], ...] = (
    Field("N", lambda p: p.cost.tokens),
    Field("Kind", lambda p: p.cost.label, numeric=False),
    Field("median ms", lambda p: milliseconds(p.measurement.median_s)),
    Field("quartiles ms", lambda p: quartiles(p.measurement), optional=True),
    Field("samples", lambda p: len(p.measurement.samples_s), optional=True),
    Field("peak bytes", lambda p: p.measurement.peak_bytes),
    Field("", lambda p: (p.measurement.error or p.measurement.stopped).partition(":")[0], numeric=False),
)
_GROWTH: tuple[Field[Growth], ...] = (
    Field("Kind", lambda g: g.label, numeric=False),
    Field("predicted", lambda g: None if g.predicted is None else f"{g.predicted:.2f}"),
    Field("measured", lambda g: _interval(g.exponent, g.low, g.high, ".2f")),
    Field("from N", lambda g: g.tokens[0] if g.tokens else None),
    Field("to N", lambda g: g.tokens[-1] if g.tokens else None),
)
_CROSSING: tuple[Field[Crossing], ...] = (
    Field("Kind", lambda c: c.label, numeric=False),
    Field("predicted N*", lambda c: None if c.predicted_tokens is None else f"{c.predicted_tokens:.4g}"),
    Field("measured N*", _crossing_text),
)


def numerics_document(errors: Sequence[RoundingError], maps: Sequence[ImpliedMap]) -> Document:
    """Return the error of each kind in each dtype as N grows, and what the maps between tokens are like."""
    by_kind: dict[tuple[str, str], list[RoundingError]] = {}
    for error in errors:
        by_kind.setdefault((error.label, error.dtype), []).append(error)
    counts = dict.fromkeys(error.tokens for error in errors)
    columns = (Column("Kind"), Column("Dtype"), *(Column(f"N = {grouped(n)}", numeric=True) for n in counts))
    rows = tuple((*key, *(_scientific(error.relative_error) for error in row)) for key, row in by_kind.items())
    tables = [Table("Relative error against float64", columns, rows)]
    if maps:
        title = f"The {maps[0].tokens} × {maps[0].tokens} map that one head of d = {maps[0].head_dim} channels implies"
        tables.append(build(title, _MAP, maps))
    results = [{"table": "errors", **asdict(error)} for error in errors]
    results += [{"table": "maps", **asdict(implied)} for implied in maps]
    contrast = (
        "Factorized attention is no approximation of softmax attention: rank at most d, signed entries, rows that sum to "
        "scale·Σq instead of 1."
    )
    notes = (
        "Standard normal queries, keys and values, rounded to the dtype before; the error is the arithmetic's alone.",
        contrast,
    )
    return Document("compare-attn", tuple(results), tuple(tables), notes, device="cpu")


def _scientific(number: float | None) -> str:
    return "not finite" if number is None else f"{number:.1e}"


_MAP: tuple[Field[ImpliedMap], ...] = (
    Field("Kind", lambda m: m.label, numeric=False),
    Field("Rank", lambda m: m.rank),
    Field("Negative entries", lambda m: f"{100 * m.negative_share:.1f} %"),
    Field("Row sums", lambda m: f"{m.row_sum_min:.3f} to {m.row_sum_max:.3f}"),
)

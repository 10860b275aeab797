"""Attention measured: the time at each N, its growth, where kinds cross, and the errors of low precision."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise

from mpvit.compare_attention.results import AttentionPoint, Crossing, Growth, ImpliedMap, RoundingError
from mpvit.measurement import WARNINGS
from mpvit.tables import Document, Field, build
from mpvit.tables.attention import widths_text
from mpvit.tables.number_text import median, quartiles, ran_on, trouble
from mpvit.units import grouped

_TOLERANCE = 0.1
"""Difference between a measured and a predicted exponent from which a note explains it."""


def _crossing_text(crossing: Crossing) -> str:
    if crossing.tokens is None:
        return "always faster" if crossing.always else "not among these N"
    return f"{crossing.tokens:.0f} ({crossing.low:.0f} to {crossing.high:.0f})"


_POINT: tuple[Field[AttentionPoint], ...] = (
    Field("N", lambda p: p.cost.tokens),
    Field("Kind", lambda p: p.cost.label, numeric=False),
    Field("median ms", lambda p: median(p.measurement)),
    Field("quartiles ms", lambda p: quartiles(p.measurement), optional=True),
    Field("samples", lambda p: len(p.measurement.samples_s), optional=True),
    Field("peak bytes", lambda p: p.measurement.peak_bytes),
    Field("", lambda p: trouble(p.measurement).partition(":")[0], numeric=False),
)
_GROWTH: tuple[Field[Growth], ...] = (
    Field("Kind", lambda g: g.label, numeric=False),
    Field("predicted", lambda g: None if g.predicted is None else f"{g.predicted:.2f}"),
    Field("measured", lambda g: None if g.exponent is None else f"{g.exponent:.2f} ({g.low:.2f} to {g.high:.2f})"),
    Field("from N", lambda g: g.tokens[0] if g.tokens else None),
    Field("to N", lambda g: g.tokens[-1] if g.tokens else None),
)
_CROSSING: tuple[Field[Crossing], ...] = (
    Field("Kind", lambda c: c.label, numeric=False),
    Field("predicted N*", lambda c: None if c.predicted_tokens is None else f"{c.predicted_tokens:.4g}"),
    Field("measured N*", _crossing_text),
)


def measured_document(
    points: Sequence[AttentionPoint], growths: Sequence[Growth], crossings: Sequence[Crossing], notes: Sequence[str] = ()
) -> Document:
    """Return the measurement at each N, the growth of each kind, and the N above which it is faster than full attention."""
    m = points[0].measurement
    tables = (
        build(f"Measured on {m.device}, {m.threads} threads, {m.dtype}; {widths_text(points[0].cost)}", _POINT, points),
        build("Growth of latency with N, Theil-Sen beyond the overhead plateau, 95 % interval", _GROWTH, growths),
        build("The N above which a kind is faster than full attention, 95 % interval", _CROSSING, crossings),
    )
    results = [{"table": "points", **point.as_row()} for point in points]
    results += [{"table": "growth", **asdict(fit)} for fit in growths]
    results += [{"table": "crossover", **asdict(crossing)} for crossing in crossings]
    warned = {name for point in points for name in point.measurement.warnings}
    warnings = [f"{name}: {advice}" for name, advice in WARNINGS.items() if name in warned]
    every = (*notes, *_deviations(points, growths), *warnings, *_left_out(points))
    return Document("compare-attn", tuple(results), tables, every, *ran_on(m))


def _deviations(points: Sequence[AttentionPoint], growths: Sequence[Growth]) -> Iterator[str]:
    """Yield a note for each kind whose time grows unlike its MACs, with the step at which they differ the most."""
    for fit in growths:
        if fit.exponent is None or fit.predicted is None or abs(fit.exponent - fit.predicted) <= _TOLERANCE:
            continue
        curve = [point for point in points if point.cost.label == fit.label and point.cost.tokens in fit.tokens]
        a, b = max(pairwise(curve), key=lambda step: _time_ratio(*step) * step[0].cost.macs / step[1].cost.macs)
        memory = [(point.measurement.peak_bytes or 0) / 1e6 for point in (a, b)]
        yield (
            f"{fit.label}: measured N^{fit.exponent:.2f}, predicted N^{fit.predicted:.2f}. The largest deviation is from "
            f"N = {grouped(a.cost.tokens)} to {grouped(b.cost.tokens)}: {_time_ratio(a, b):.1f} times the time for "
            f"{b.cost.macs / a.cost.macs:.1f} times the multiply-adds, peak memory from {memory[0]:.1f} to {memory[1]:.1f} MB."
        )


def _time_ratio(a: AttentionPoint, b: AttentionPoint) -> float:
    return (b.measurement.median_s or 0) / (a.measurement.median_s or 1)


def _left_out(points: Sequence[AttentionPoint]) -> Iterator[str]:
    """Yield, for each kind and reason, the N at which it was not measured or not to the end."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for point in points:
        if reason := trouble(point.measurement):
            reasons.setdefault((point.cost.label, reason.partition(":")[0]), []).append(grouped(point.cost.tokens))
    for (label, reason), tokens in reasons.items():
        yield f"{label}: {reason} at N = {', '.join(tokens)}"


# ── numerics ────────────────────────────────────────────────────────────────────────────────────────────────────────

_MAP: tuple[Field[ImpliedMap], ...] = (
    Field("Kind", lambda m: m.label, numeric=False),
    Field("Rank", lambda m: m.rank),
    Field("Negative entries", lambda m: f"{100 * m.negative_share:.1f} %"),
    Field("Row sums", lambda m: f"{m.row_sum_min:.3f} to {m.row_sum_max:.3f}"),
)

_NUMERICS_NOTES = (
    "Queries, keys and values are standard normal and rounded to the dtype first: the error is that of the arithmetic.",
    (
        "Factorized attention does not approximate softmax attention: its map has rank d at most, entries of both signs, and "
        "rows that sum to scale·Σq instead of 1."
    ),
)


def numerics_document(errors: Sequence[RoundingError], maps: Sequence[ImpliedMap]) -> Document:
    """Return the error of each kind and dtype as N grows, and properties of the maps between tokens."""
    by_kind: dict[tuple[str, str], list[RoundingError]] = {}
    for error in errors:
        by_kind.setdefault((error.label, error.dtype), []).append(error)
    fields: list[Field[list[RoundingError]]] = [
        Field("Kind", lambda row: row[0].label, numeric=False),
        Field("Dtype", lambda row: row[0].dtype, numeric=False),
    ]
    every_n = dict.fromkeys(error.tokens for error in errors)
    fields += [Field(f"N = {grouped(n)}", partial(_error_text, index)) for index, n in enumerate(every_n)]
    tables = [build("Relative error against float64", fields, list(by_kind.values()))]
    if maps:
        title = f"The {maps[0].tokens} × {maps[0].tokens} map of one head with d = {maps[0].head_dim} channels"
        tables.append(build(title, _MAP, maps))
    results = [{"table": "errors", **asdict(error)} for error in errors]
    results += [{"table": "maps", **asdict(implied)} for implied in maps]
    return Document("compare-attn", tuple(results), tuple(tables), _NUMERICS_NOTES, device="cpu")


def _error_text(index: int, row: Sequence[RoundingError]) -> str:
    error = row[index].relative_error
    return "not finite" if error is None else f"{error:.1e}"

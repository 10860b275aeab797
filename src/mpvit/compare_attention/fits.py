"""Fits to measured attention: the growth of latency with N, and the N from which a kind is faster than full attention."""

from collections.abc import Sequence
from math import log

from mpvit.compare_attention.results import AttentionPoint, Crossing, Growth
from mpvit.measurement.estimates import crossover, growth_exponent

REFERENCE = "softmax"

_MIN_POINTS = 2


def growths(points: Sequence[AttentionPoint]) -> list[Growth]:
    """Return the growth exponent of the latency of each kind, beyond the overhead plateau."""
    return [_growth(curve) for curve in _curves(points).values()]


def crossings(points: Sequence[AttentionPoint]) -> list[Crossing]:
    """Return the crossover of each other kind with full attention, among the N at which both were measured."""
    curves = _curves(points)
    full = {point.cost.tokens: point for point in curves.pop(REFERENCE, [])}
    pairs = [[(full[p.cost.tokens], p) for p in curve if p.cost.tokens in full] for curve in curves.values()]
    return [_crossing(pair) for pair in pairs if len(pair) >= _MIN_POINTS]


def _curves(points: Sequence[AttentionPoint]) -> dict[str, list[AttentionPoint]]:
    """Return the measured points of each kind, the smallest N first."""
    curves: dict[str, list[AttentionPoint]] = {}
    for point in sorted(points, key=lambda point: point.cost.tokens):
        if point.measurement.samples_s:
            curves.setdefault(point.measurement.name, []).append(point)
    return curves


def _growth(curve: Sequence[AttentionPoint]) -> Growth:
    cost, sizes = curve[0].cost, [point.cost.tokens for point in curve]
    samples = [point.measurement.samples_s for point in curve]
    fit = growth_exponent(sizes, samples) if len(curve) >= _MIN_POINTS else None
    if fit is None:
        return Growth(cost.label, cost.kind, None, None, None, None, ())
    macs = {point.cost.tokens: point.cost.macs for point in curve}
    first, last = fit.sizes[0], fit.sizes[-1]
    predicted = log(macs[last] / macs[first]) / log(last / first)
    interval = fit.exponent
    return Growth(cost.label, cost.kind, predicted, interval.estimate, interval.low, interval.high, fit.sizes)


def _crossing(pairs: Sequence[tuple[AttentionPoint, AttentionPoint]]) -> Crossing:
    cost = pairs[0][1].cost
    full, kind = ([pair[side].measurement.samples_s for pair in pairs] for side in (0, 1))
    found = crossover([point.cost.tokens for point, _ in pairs], full, kind)
    always = all((f.measurement.median_s or 0) > (k.measurement.median_s or 0) for f, k in pairs)
    estimate, low, high = (found.estimate, found.low, found.high) if found else (None, None, None)
    return Crossing(cost.label, cost.kind, cost.crossover_tokens, estimate, low, high, always)

"""What measured points of attention say: how latency grows with N, and where a kind overtakes full attention."""

from collections.abc import Sequence
from math import log

from mpvit.compare_attention.results import AttentionPoint, Crossing, Growth
from mpvit.measurement.estimates import crossover, growth_exponent

REFERENCE = "softmax"


def growths(points: Sequence[AttentionPoint]) -> list[Growth]:
    """Return the growth exponent of each kind's latency, by Theil-Sen on the part beyond the overhead plateau."""
    return [_growth(curve) for curve in _curves(points).values()]


def crossings(points: Sequence[AttentionPoint]) -> list[Crossing]:
    """Return where each other kind becomes faster than full attention, over the N that both were measured at."""
    curves = _curves(points)
    full = {point.cost.tokens: point for point in curves.pop(REFERENCE, [])}
    pairs = [[(full[p.cost.tokens], p) for p in curve if p.cost.tokens in full] for curve in curves.values()]
    enough = 2
    return [_crossing(pair) for pair in pairs if len(pair) >= enough]


def _curves(points: Sequence[AttentionPoint]) -> dict[str, list[AttentionPoint]]:
    """Return the measured points of each kind, the smallest N first."""
    curves: dict[str, list[AttentionPoint]] = {}
    for point in sorted(points, key=lambda point: point.cost.tokens):
        if point.measurement.samples_s:
            curves.setdefault(point.measurement.name, []).append(point)
    return curves


def _growth(curve: Sequence[AttentionPoint]) -> Growth:
    cost, enough = curve[0].cost, 2
    sizes = [point.cost.tokens for point in curve]
    slope = growth_exponent(sizes, [point.measurement.samples_s for point in curve]) if len(curve) >= enough else None
    if slope is None:
        return Growth(cost.label, cost.kind, None, None, None, None, ())
    macs = {point.cost.tokens: point.cost.macs for point in curve}
    first, last = slope.sizes[0], slope.sizes[-1]
    predicted = log(macs[last] / macs[first]) / log(last / first)
    interval = slope.exponent
    return Growth(cost.label, cost.kind, predicted, interval.estimate, interval.low, interval.high, slope.sizes)


def _crossing(pairs: Sequence[tuple[AttentionPoint, AttentionPoint]]) -> Crossing:
    cost = pairs[0][1].cost
    full, kind = ([pair[side].measurement.samples_s for pair in pairs] for side in (0, 1))
    found = crossover([point.cost.tokens for point, _ in pairs], full, kind)
    always = all((f.measurement.median_s or 0) > (k.measurement.median_s or 0) for f, k in pairs)
    if found is None:
        return Crossing(cost.label, cost.kind, cost.crossover_tokens, None, None, None, always)
    return Crossing(cost.label, cost.kind, cost.crossover_tokens, found.estimate, found.low, found.high, always)

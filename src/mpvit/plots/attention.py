"""Attention as N grows, in log-log panels: predicted multiply-adds, measured latency, measured peak memory."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import log
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.compare_attention.fits import growths
from mpvit.compare_attention.results import AttentionCost, AttentionPoint
from mpvit.plots import COLORS, SMALL, color, marker, style_axes

_LABEL_GAP = 0.055
"""Smallest distance of two labels, as a share of the height of a panel."""


class _Curve(NamedTuple):
    """One line of a panel, and the kinds that share it."""

    labels: list[str]
    tokens: list[int]
    values: list[float]


def attention_figure(costs: Sequence[AttentionCost], points: Sequence[AttentionPoint] = ()) -> Figure:
    """Return the predicted panel and, with measured ``points``, the measured ones.

    Labels of latencies have the fitted exponent of N. Kinds with equal values share a line.
    """
    names = list(dict.fromkeys(cost.label for cost in costs))
    panels = [("Predicted multiply-adds", "multiply-adds", _curves(costs, lambda c: c, lambda c: c.macs))]
    if points:
        seconds = _curves(points, lambda p: p.cost, lambda p: p.measurement.median_s)
        peaks = _curves(points, lambda p: p.cost, lambda p: p.measurement.peak_bytes)
        measured = [("Measured latency", "seconds", seconds), ("Measured peak memory", "bytes", peaks)]
        panels += [panel for panel in measured if panel[2]]
    exponents = {fit.label: fit.exponent for fit in growths(points) if fit.exponent is not None}
    figure = Figure(figsize=(5.6 * len(panels), 4.4), layout="constrained")
    for number, (title, unit, curves) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        style_axes(axes, "tokens N", unit)
        axes.set_title(title)
        _draw(axes, curves, names, exponents if unit == "seconds" else {})
    return figure


def _curves(items: Sequence[Any], cost: Callable[[Any], AttentionCost], value: Callable[[Any], float | None]) -> list[_Curve]:
    """Return one curve for each kind that has values; kinds with equal values share one."""
    by_label: dict[str, _Curve] = {}
    for item in sorted(items, key=lambda item: cost(item).tokens):
        if number := value(item):
            label = cost(item).label
            curve = by_label.setdefault(label, _Curve([label], [], []))
            curve.tokens.append(cost(item).tokens)
            curve.values.append(number)
    merged: dict[tuple[object, ...], _Curve] = {}
    for curve in by_label.values():
        same = merged.setdefault((*curve.tokens, *curve.values), curve)
        if same is not curve:
            same.labels.extend(curve.labels)
    return list(merged.values())


def _draw(axes: Axes, curves: Sequence[_Curve], names: Sequence[str], exponents: dict[str, float]) -> None:
    for curve in curves:
        number = names.index(curve.labels[0])
        style = {"marker": marker(number), "linestyle": "-" if number < len(COLORS) else "--"}
        axes.loglog(curve.tokens, curve.values, color=color(number), markersize=4, linewidth=1.4, **style)
    for curve, height in zip(curves, _label_heights(axes, curves), strict=True):
        own, exponent = color(names.index(curve.labels[0])), exponents.get(curve.labels[0])
        axes.annotate(
            " = ".join(curve.labels) + (f", N$^{{{exponent:.2f}}}$" if exponent is not None else ""),
            xy=(curve.tokens[-1], curve.values[-1]),
            xytext=(1.04, height),
            textcoords="axes fraction",
            color=own,
            fontsize=SMALL,
            va="center",
            arrowprops={"arrowstyle": "-", "color": own, "linewidth": 0.5, "alpha": 0.5, "shrinkA": 1, "shrinkB": 3},
        )


def _label_heights(axes: Axes, curves: Sequence[_Curve]) -> list[float]:
    """Return the height of each label as a share of the panel's: near the end of its line, and clear of the others.

    Pushing each label up from the one below and down from the one above both keep the gap, and so does their mean.
    """
    low, high = axes.get_ylim()
    ends = [log(curve.values[-1] / low) / log(high / low) for curve in curves]
    order = sorted(range(len(ends)), key=ends.__getitem__)
    raised, lowered = dict(enumerate(ends)), dict(enumerate(ends))
    for below, above in pairwise(order):
        raised[above] = max(raised[above], raised[below] + _LABEL_GAP)
    for below, above in reversed(list(pairwise(order))):
        lowered[below] = min(lowered[below], lowered[above] - _LABEL_GAP)
    return [(raised[index] + lowered[index]) / 2 for index in range(len(ends))]

"""Attention as N grows, in three panels: predicted multiply-adds, measured latency, measured peak memory. Log-log."""

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure

from mpvit.plots import COLORS, MARKERS
from mpvit.results import AttentionCost, AttentionPoint, Growth

Curves = dict[str, tuple[list[int], list[float]]]

_LABEL_GAP = 0.055
"""Of a panel's height: what two labels beside each other's lines need."""


def attention_figure(
    costs: Sequence[AttentionCost], points: Sequence[AttentionPoint] = (), fits: Sequence[Growth] = ()
) -> Figure:
    """Return the panels that there is something for: without measured ``points``, the predicted one alone."""
    labels = list(dict.fromkeys(cost.label for cost in costs))
    styles = {label: (COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i, label in enumerate(labels)}
    panels: list[tuple[str, str, Curves]] = [
        ("Predicted", "multiply-adds", _curves(costs, lambda c: c, lambda c: c.macs)),
    ]
    if points:
        seconds = _curves(points, lambda p: p.cost, lambda p: p.measurement.median_s)
        peaks = _curves(points, lambda p: p.cost, lambda p: p.measurement.peak_bytes)
        panels += [("Measured", "latency in seconds", seconds), ("Measured", "peak memory in bytes", peaks)]
    figure = Figure(figsize=(5.2 * len(panels), 4.6), layout="constrained")
    exponents = {fit.label: fit.exponent for fit in fits if fit.exponent is not None}
    for number, (title, what, curves) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        texts = {k: f"{k}, N^{exponents[k]:.2f}" if "latency" in what and k in exponents else k for k in curves}
        _panel(axes, curves, styles, texts)
        axes.set(xlabel="tokens N", ylabel=what, title=f"{title} {what.partition(' in ')[0]}")
    return figure


def _curves(items: Sequence[Any], cost: Callable[[Any], AttentionCost], value: Callable[[Any], float | None]) -> Curves:
    curves: Curves = {}
    for item in sorted(items, key=lambda item: cost(item).tokens):
        number = value(item)
        if number:
            xs, ys = curves.setdefault(cost(item).label, ([], []))
            xs.append(cost(item).tokens)
            ys.append(number)
    return curves


def _panel(axes: Any, curves: Curves, styles: dict[str, tuple[str, str]], texts: dict[str, str]) -> None:  # noqa: ANN401
    for label, (xs, ys) in curves.items():
        color, marker = styles[label]
        axes.loglog(xs, ys, color=color, marker=marker, markersize=4, linewidth=1.4)
    axes.grid(visible=True, which="major", color="0.88", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    last = max((xs[-1] for xs, _ in curves.values()), default=1)
    first = min((xs[0] for xs, _ in curves.values()), default=1)
    axes.set_xlim(first, last * (last / first) ** 0.75)  # room for the labels at the right
    for label, height in _spread(axes, curves).items():
        xs, ys = curves[label]
        axes.annotate(
            texts[label],
            xy=(xs[-1], ys[-1]),
            xytext=(0.6, height),
            textcoords="axes fraction",
            color=styles[label][0],
            fontsize=7.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": styles[label][0], "linewidth": 0.5, "alpha": 0.6},
        )


def _spread(axes: Any, curves: Curves) -> dict[str, float]:  # noqa: ANN401 - matplotlib has no types for it
    """Return each label's height, as a share of the panel's: near its line's end, and clear of the others."""
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = {label: float(to_axes.transform((xs[-1], ys[-1]))[1]) for label, (xs, ys) in curves.items()}
    heights: dict[str, float] = {}
    lowest = 0.0
    for label, height in sorted(ends.items(), key=lambda item: item[1]):
        heights[label] = lowest = max(height, lowest)
        lowest += _LABEL_GAP
    overflow = max(max(heights.values(), default=0) - 1, 0)
    return {label: height - overflow for label, height in heights.items()}

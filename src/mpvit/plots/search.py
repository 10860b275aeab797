"""The result of a search, parameters over multiply-adds: the Pareto front, the candidates, the published variants."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from mpvit.plots import COLORS, DASHED, MEDIUM, SMALL, plain_log_ticks, style_axes
from mpvit.search.results import Candidate, SearchResult
from mpvit.units import grouped, times

_GIGA, _MEGA = 1e9, 1e6
_EDGE, _NAME = 0.04, 0.2
"""Room between the outermost points and the edge, and for a name after the last one, as shares of the range of the points."""


def search_figure(found: SearchResult) -> Figure:
    """Return one log-log panel; the limits are dashed lines, and only the published variants have an accuracy."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    style_axes(axes, f"10$^9$ multiply-adds (MACs, convention {found.study.convention})", "10$^6$ parameters")
    x, y = _coordinates(found.front)
    axes.step(x, y, where="post", color=COLORS[0], linewidth=1, zorder=2)
    axes.plot(x, y, ".", color=COLORS[0], markersize=3.5, zorder=2, label="Pareto front: most parameters for the MACs")
    best = f"the {len(found.candidates)} best by {found.study.criterion}"
    x, y = _coordinates(found.candidates)
    axes.plot(x, y, "o", color=COLORS[1], markersize=4, alpha=0.8, markeredgewidth=0, zorder=5, label=best)
    _draw_published(axes, found)
    _set_limits(axes, found)
    plain_log_ticks(axes)
    shape = times((1, 3, *found.study.size))
    kept = f"{grouped(found.kept)} of {grouped(found.examined)} networks within the limits, input {shape}"
    axes.set_title(kept, fontsize=MEDIUM, loc="left")
    axes.legend(loc="lower right", fontsize=SMALL, framealpha=1, edgecolor="none").set_zorder(6)
    return figure


def _coordinates(candidates: Sequence[Candidate]) -> tuple[list[float], list[float]]:
    return [c.macs / _GIGA for c in candidates], [c.params / _MEGA for c in candidates]


def _draw_published(axes: Axes, found: SearchResult) -> None:
    """Draw the published variants with their names and published accuracies."""
    x, y = _coordinates([each.candidate for each in found.published])
    axes.plot(x, y, "D", color=COLORS[6], markersize=5, zorder=4, label="published, with ImageNet-1K top-1")
    for across, up, each in zip(x, y, found.published, strict=True):
        text = f"{each.name}, {each.accuracy.top1:.1f} %"
        note = axes.annotate(text, (across, up), (6, -3), textcoords="offset points", fontsize=SMALL, va="top", zorder=6)
        note.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _set_limits(axes: Axes, found: SearchResult) -> None:
    """Fit the axes to the points and their names, and draw the limits of the search."""
    x, y = _coordinates([*found.front, *found.candidates, *(each.candidate for each in found.published)])
    wide, high = max(x) / min(x), max(y) / min(y)
    axes.set(xlim=(min(x) / wide**_EDGE, max(x) * wide**_NAME), ylim=(min(y) / high**_EDGE, max(y) * high**_EDGE))
    limits, label = found.study.limits, f"at most {found.study.limits.text()}"
    style: dict[str, Any] = {"color": "0.35", "linewidth": 0.8, "linestyle": DASHED, "zorder": 1}
    if limits.macs is not None and limits.macs / _GIGA < axes.get_xlim()[1]:
        axes.axvline(limits.macs / _GIGA, label=label, **style)
        label = "_"
    if limits.params is not None and limits.params / _MEGA < axes.get_ylim()[1]:
        axes.axhline(limits.params / _MEGA, label=label, **style)

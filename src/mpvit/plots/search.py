"""What a search has found, parameters over multiply-adds: the Pareto front, the candidates, the published variants."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mpvit.plots import COLORS
from mpvit.search.found import Candidate, Found
from mpvit.units import grouped, times

_LETTERS = 8
_GIGA, _MEGA = 1e9, 1e6
_EDGE, _NAME = 0.04, 0.2
"""Room between the outermost points and the edge, and for a name behind the last one: shares of what they span."""


def search_figure(found: Found) -> Figure:
    """Return one log-log panel; the limits are dashed lines, and only published variants have an accuracy."""
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    x, y = _places(found.front)
    axes.step(x, y, where="post", color=COLORS[0], linewidth=1, zorder=2)
    axes.plot(x, y, ".", color=COLORS[0], markersize=3.5, zorder=2, label="Pareto front: most parameters for the MACs")
    label = f"the {len(found.best)} best by {found.study.criterion}"
    axes.plot(*_places(found.best), "o", color=COLORS[1], markersize=4, alpha=0.8, markeredgewidth=0, zorder=5, label=label)
    _published(axes, found)
    _set_limits(axes, found)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelsize=_LETTERS)
    axes.set_xlabel(f"10$^9$ multiply-adds (MACs, convention {found.study.convention})", fontsize=_LETTERS + 1)
    axes.set_ylabel("10$^6$ parameters", fontsize=_LETTERS + 1)
    axes.set_axisbelow(True)
    axes.grid(visible=True, which="major", color="0.93", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    shape = times((1, 3, *found.study.size))
    kept = f"{grouped(found.kept)} of {grouped(found.examined)} networks within the limits, input {shape}"
    axes.set_title(kept, fontsize=_LETTERS + 1, loc="left")
    axes.legend(loc="lower right", fontsize=_LETTERS, framealpha=1, edgecolor="none").set_zorder(6)
    return figure


def _places(candidates: Sequence[Candidate]) -> tuple[list[float], list[float]]:
    return [c.macs / _GIGA for c in candidates], [c.params / _MEGA for c in candidates]


def _published(axes: Axes, found: Found) -> None:
    """Draw the published variants with their names and published accuracies."""
    x, y = _places([each.candidate for each in found.published])
    axes.plot(x, y, "D", color=COLORS[6], markersize=5, zorder=4, label="published, ImageNet-1K top-1 as published")
    for across, up, each in zip(x, y, found.published, strict=True):
        text = f"{each.name}, {each.accuracy.top1:.1f} %"
        note = axes.annotate(text, (across, up), (6, -3), textcoords="offset points", fontsize=_LETTERS, va="top", zorder=6)
        note.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _set_limits(axes: Axes, found: Found) -> None:
    """Fit the axes to the points, with room for their names, and draw the limits with what they are."""
    every = [*found.front, *found.best, *(each.candidate for each in found.published)]
    x, y = _places(every)
    wide, high = max(x) / min(x), max(y) / min(y)
    axes.set_xlim(min(x) / wide**_EDGE, max(x) * wide**_NAME)
    axes.set_ylim(min(y) / high**_EDGE, max(y) * high**_EDGE)
    limits, label = found.study.limits, f"at most {found.study.limits.text()}"
    style: dict[str, Any] = {"color": "0.35", "linewidth": 0.8, "linestyle": (0, (4, 3)), "zorder": 1}
    if limits.macs is not None and limits.macs / _GIGA < axes.get_xlim()[1]:
        axes.axvline(limits.macs / _GIGA, label=label, **style)
        label = "_"
    if limits.params is not None and limits.params / _MEGA < axes.get_ylim()[1]:
        axes.axhline(limits.params / _MEGA, label=label, **style)

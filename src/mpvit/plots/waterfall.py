"""The waterfall from the exact count to each tool's number: what it adds, leaves out and counts several times."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.plots import COLORS
from mpvit.reconcile.explain import Explanation
from mpvit.tables.reconcile import signed
from mpvit.units import grouped

_BLUE, _RED, _GREEN = COLORS[0], COLORS[1], COLORS[2]
_GREY = "0.62"
_LETTERS = 8
_ROW_INCHES = 0.19
_GAP_ROWS = 0.7


class _Bar(NamedTuple):
    """One row: its label, where its bar starts and ends in MACs, its colour, and what stands beside it."""

    label: str
    start: int
    end: int
    color: str
    text: str
    total: bool


def waterfall_figure(explanations: Sequence[Explanation]) -> Figure:
    """Return one panel a network, its tools one under the other; MACs across, from 0."""
    models = list(dict.fromkeys(each.label for each in explanations))
    rows = [[_bars(each) for each in explanations if each.label == model] for model in models]
    heights = [sum(len(bars) + _GAP_ROWS for bars in tools) for tools in rows]
    figure = Figure(figsize=(7.2, _ROW_INCHES * sum(heights) + 0.9 * len(models)), layout="constrained")
    for axes, model, tools in zip(
        figure.subplots(len(models), squeeze=False, height_ratios=heights)[:, 0], models, rows, strict=True
    ):
        _draw(axes, tools)
        shapes = next(each.input_shapes for each in explanations if each.label == model)
        size = ", ".join("×".join(map(str, shape)) for shape in shapes)
        axes.set_title(f"{model}, input {size}", fontsize=_LETTERS + 2, loc="left")
    return figure


def _bars(explained: Explanation) -> list[_Bar]:
    bars = [_Bar("exact count", 0, explained.macs, _GREY, grouped(explained.macs), total=False)] if explained.terms else []
    level = explained.macs
    for term in explained.terms:
        after = level + term.amount
        bars.append(_Bar(term.name, level, after, _RED if term.amount > 0 else _GREEN, signed(term.amount), total=False))
        level = after
    return [*bars, _Bar(explained.tool, 0, level, _BLUE, grouped(level), total=True)]


def _draw(axes: Axes, tools: Sequence[Sequence[_Bar]]) -> None:
    height, labels, places = 0.0, [], []
    largest = max(max(bar.start, bar.end) for bars in tools for bar in bars)
    for bars in tools:
        for bar in bars:
            low, high = sorted((bar.start, bar.end))
            axes.barh(height, high - low, left=low, height=0.78, color=bar.color, linewidth=0)
            weight = "bold" if bar.total else "normal"
            axes.text(high + largest / 100, height, bar.text, va="center", fontsize=_LETTERS, fontweight=weight)
            if not bar.total:
                axes.plot([bar.end, bar.end], [height, height + 1], color="0.4", linewidth=0.5, zorder=0)
            labels.append(bar.label)
            places.append(height)
            height += 1
        height += _GAP_ROWS
    axes.set_yticks(places, labels, fontsize=_LETTERS)
    totals = [bar.total for bars in tools for bar in bars]
    for label, total in zip(axes.get_yticklabels(), totals, strict=True):
        label.set_fontweight("bold" if total else "normal")
    axes.set_ylim(height - _GAP_ROWS, -0.8)
    axes.set_xlim(0, 1.22 * largest)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e9:g}")
    axes.set_xlabel("10$^9$ multiply-adds (MACs)", fontsize=_LETTERS)
    axes.tick_params(axis="x", labelsize=_LETTERS)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)

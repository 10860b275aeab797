"""The waterfall from the exact count to the number of each tool: what the tool adds, leaves out and counts repeatedly."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.plots import COLORS, SMALL, style_bars
from mpvit.reconcile.explain import Explanation
from mpvit.tables.number_text import signed
from mpvit.units import grouped, times

_BLUE, _RED, _GREEN = COLORS[0], COLORS[1], COLORS[2]
_GREY = "0.62"
_ROW_INCHES = 0.19
_GAP_ROWS = 0.7


class _Bar(NamedTuple):
    """One row: its label, start and end of its bar in MACs, its colour, its number, and whether it is a tool's number."""

    label: str
    start: int
    end: int
    color: str
    text: str
    total: bool


def waterfall_figure(explanations: Sequence[Explanation]) -> Figure:
    """Return one panel per network, with its tools one below the other; MACs from 0 along the x axis."""
    by_model: dict[str, list[Explanation]] = {}
    for each in explanations:
        by_model.setdefault(each.label, []).append(each)
    bars = [[_bars(each) for each in tools] for tools in by_model.values()]
    heights = [sum(len(each) + _GAP_ROWS for each in tools) for tools in bars]
    figure = Figure(figsize=(7.2, _ROW_INCHES * sum(heights) + 0.9 * len(by_model)), layout="constrained")
    panels = figure.subplots(len(by_model), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (model, tools), own in zip(panels, by_model.items(), bars, strict=True):
        _draw(axes, own)
        size = ", ".join(times(shape) for shape in tools[0].input_shapes)
        axes.set_title(f"{model}, input {size}", fontsize=SMALL + 2, loc="left")
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
    y, rows = 0.0, []
    largest = max(max(bar.start, bar.end) for bars in tools for bar in bars)
    for bars in tools:
        for bar in bars:
            low, high = sorted((bar.start, bar.end))
            axes.barh(y, high - low, left=low, height=0.78, color=bar.color, linewidth=0)
            axes.text(high + largest / 100, y, bar.text, va="center", fontsize=SMALL, fontweight=_weight(bar))
            if not bar.total:
                axes.plot([bar.end, bar.end], [y, y + 1], color="0.4", linewidth=0.5, zorder=0)
            rows.append((y, bar))
            y += 1
        y += _GAP_ROWS
    axes.set_yticks([y for y, _ in rows], [bar.label for _, bar in rows])
    for label, (_, bar) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight(_weight(bar))
    axes.set(xlim=(0, 1.22 * largest), ylim=(y - _GAP_ROWS, -0.8))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1e9:g}")
    style_bars(axes, "10$^9$ multiply-adds (MACs)")


def _weight(bar: _Bar) -> str:
    return "bold" if bar.total else "normal"

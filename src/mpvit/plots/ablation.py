"""Ablations: multiply-adds and parameters of each edited network, stacked by part, and its latency if measured."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.ablation.results import PARTS, Row
from mpvit.ablation.study import Ablation
from mpvit.errors import UsageError
from mpvit.plots import COLORS, DASHED, LEGEND, SMALL, style_bars
from mpvit.tables.ablation import matched_text
from mpvit.tables.number_text import median
from mpvit.units import times

MOST_BARS = 60
"""Largest number of rows that fit a page."""

_BAR_INCHES = 0.22
_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
"""Background of numbers, so that no line crosses them."""

_PART_COLORS = dict(zip(PARTS, (COLORS[6], COLORS[0], COLORS[4], COLORS[2], COLORS[3]), strict=True))
_PANELS = (("macs", "10$^9$ multiply-adds (MACs)", 1e9), ("params", "10$^6$ parameters", 1e6))


def require_few(rows: int) -> None:
    """Raise ``UsageError`` for more rows than a figure can show."""
    if rows > MOST_BARS:
        raise UsageError(f"a figure of {rows} rows: must be at most {MOST_BARS}", hint="choose fewer values, or no figure")


def ablation_figure(found: Ablation) -> Figure:
    """Return one panel per figure, with one bar per row; the baseline is at the top, and a line marks its end."""
    rows = [found.baseline, *found.rows]
    require_few(len(rows))
    panels = len(_PANELS) + bool(found.baseline.time)
    figure = Figure(figsize=(7.2, _BAR_INCHES * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True)
    for panel, (name, label, unit) in zip(axes, _PANELS, strict=False):
        _stack(panel, rows, name, unit)
        style_bars(panel, label)
    if found.baseline.time:
        _latencies(axes[-1], rows)
        style_bars(axes[-1], "latency (ms), quartiles")
    labels = [", ".join(row.values.values()) for row in rows]
    axes[0].set_yticks(range(len(rows)), [f"{labels[0]} (baseline)", *labels[1:]])
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    axes[0].set_ylabel(", ".join(found.study.axes), fontsize=SMALL)
    title = f"{found.study.model}, input {times(found.study.input_shape)}{matched_text(found.study)}"
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, title=title, title_fontsize=SMALL + 2, loc="outside upper center", ncols=len(PARTS), **LEGEND)
    return figure


def _stack(axes: Axes, rows: Sequence[Row], name: str, unit: float) -> None:
    """Draw the parts of each row one after another, with their sum at the end."""
    ends = [0.0] * len(rows)
    for part in PARTS:
        lengths = [getattr(row.parts[part], name) / unit if row.parts else 0.0 for row in rows]
        axes.barh(range(len(rows)), lengths, left=ends, height=0.78, color=_PART_COLORS[part], label=part, linewidth=0)
        ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    for y, (end, row) in enumerate(zip(ends, rows, strict=True)):
        text = f" {end:.2f}" if row.parts else " refused"
        axes.text(end, y, text, va="center", fontsize=SMALL, bbox=_CLEAR, zorder=0.5)
    _mark_baseline(axes, ends[0])
    axes.set_xlim(0, 1.2 * max(ends))


def _latencies(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the median and quartiles of each row in milliseconds."""
    for y, row in enumerate(rows):
        if row.time and row.time.median_s and (pair := row.time.quartiles_s):
            low, middle, high = (1e3 * seconds for seconds in (pair[0], row.time.median_s, pair[1]))
            axes.plot([low, high], [y, y], color=COLORS[0], linewidth=3, alpha=0.4, solid_capstyle="butt")
            axes.plot(middle, y, "o", color=COLORS[0], markersize=4)
            axes.text(high, y, f"  {median(row.time)}", va="center", fontsize=SMALL)
    baseline = rows[0].time
    if baseline and baseline.median_s:
        _mark_baseline(axes, 1e3 * baseline.median_s)
    axes.set_xlim(0, 1.2 * axes.get_xlim()[1])


def _mark_baseline(axes: Axes, x: float) -> None:
    axes.axvline(x, color="0.3", linewidth=0.7, linestyle=DASHED, zorder=0)

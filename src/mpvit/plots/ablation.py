"""What each edited network costs, stacked by part: multiply-adds and parameters, and latency where it was measured."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.ablation.results import PARTS, Row
from mpvit.ablation.study import Ablation
from mpvit.errors import UsageError
from mpvit.plots import COLORS
from mpvit.tables.ablation import matched_text
from mpvit.tables.measured import milliseconds
from mpvit.units import times

MOST_BARS = 60
"""Rows that still fit a page."""

_LETTERS = 8
_BAR_INCHES = 0.22
_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
"""Behind words, so that no line runs through them."""

_PART_COLORS = dict(zip(PARTS, (COLORS[6], COLORS[0], COLORS[4], COLORS[2], COLORS[3]), strict=True))
_PANELS = (("macs", "10$^9$ multiply-adds (MACs)", 1e9), ("params", "10$^6$ parameters", 1e6))


def require_few(rows: int) -> None:
    """Raise ``UsageError`` for more rows than a figure can show."""
    if rows > MOST_BARS:
        raise UsageError(f"a figure of {rows} rows: must be at most {MOST_BARS}", hint="take fewer values, or leave out --plot")


def ablation_figure(found: Ablation) -> Figure:
    """Return one panel a figure, one bar a row, the baseline's on top with a line down from its end."""
    rows = [found.baseline, *found.rows]
    require_few(len(rows))
    panels = len(_PANELS) + bool(found.baseline.time)
    figure = Figure(figsize=(7.2, _BAR_INCHES * len(rows) + 1.3), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True)
    for panel, (name, label, unit) in zip(axes, _PANELS, strict=False):
        _stack(panel, rows, name, unit)
        panel.set_xlabel(label, fontsize=_LETTERS)
    if found.baseline.time:
        _latencies(axes[-1], rows)
    labels = [", ".join(row.values.values()) for row in rows]
    axes[0].set_yticks(range(len(rows)), [f"{labels[0]} (baseline)", *labels[1:]], fontsize=_LETTERS)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    axes[0].set_ylabel(", ".join(found.study.axes), fontsize=_LETTERS)
    for panel in axes:
        panel.tick_params(axis="x", labelsize=_LETTERS)
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        title=f"{found.study.model}, input {times(found.study.input_shape)}{matched_text(found.study)}",
        title_fontsize=_LETTERS + 2,
        loc="outside upper center",
        ncols=len(PARTS),
        fontsize=_LETTERS,
        frameon=False,
    )
    return figure


def _stack(axes: Axes, rows: Sequence[Row], name: str, unit: float) -> None:
    """Draw each row's parts one behind the other and its sum at the end."""
    ends = [0.0] * len(rows)
    for part in PARTS:
        lengths = [getattr(row.parts[part], name) / unit if row.parts else 0.0 for row in rows]
        axes.barh(range(len(rows)), lengths, left=ends, height=0.78, color=_PART_COLORS[part], label=part, linewidth=0)
        ends = [end + length for end, length in zip(ends, lengths, strict=True)]
    for place, (end, row) in enumerate(zip(ends, rows, strict=True)):
        text = f" {end:.2f}" if row.parts else " refused"
        axes.text(end, place, text, va="center", fontsize=_LETTERS, bbox=_CLEAR, zorder=0.5)
    _baseline(axes, ends[0])
    axes.set_xlim(0, 1.2 * max(ends))


def _latencies(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw each row's median and quartiles in milliseconds."""
    for place, row in enumerate(rows):
        if row.time and row.time.median_s and (pair := row.time.quartiles_s):
            low, middle, high = (1e3 * seconds for seconds in (pair[0], row.time.median_s, pair[1]))
            axes.plot([low, high], [place, place], color=COLORS[0], linewidth=3, alpha=0.4, solid_capstyle="butt")
            axes.plot(middle, place, "o", color=COLORS[0], markersize=4)
            axes.text(high, place, f"  {milliseconds(row.time.median_s)}", va="center", fontsize=_LETTERS)
    own = rows[0].time
    if own and own.median_s:
        _baseline(axes, 1e3 * own.median_s)
    axes.set_xlim(0, 1.2 * axes.get_xlim()[1])
    axes.set_xlabel("latency (ms), quartiles", fontsize=_LETTERS)


def _baseline(axes: Axes, at: float) -> None:
    axes.axvline(at, color="0.3", linewidth=0.7, linestyle=(0, (3, 2)), zorder=0)

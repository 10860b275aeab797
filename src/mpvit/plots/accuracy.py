"""What each edited network is worth beside what it costs: accuracy over multiply-adds, with intervals."""

from matplotlib.figure import Figure

from mpvit.ablation.study import Ablation
from mpvit.plots import COLORS, MARKERS
from mpvit.tables.ablation import matched_text
from mpvit.units import times

_LETTERS = 8
_MEGA = 1e6


def cost_accuracy_figure(found: Ablation, data: str) -> Figure:
    """Return one panel: a point a row with Student's 95 % interval over seeds, and each seed as a dot behind it."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    seeds = 0
    for place, row in enumerate((found.baseline, *found.rows)):
        accuracy, cost = row.accuracy, row.cost
        if accuracy is None or cost is None:
            continue
        seeds = len(accuracy.shares)
        color, marker = COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)]
        x = cost.macs / _MEGA
        axes.plot([x] * seeds, [100 * share for share in accuracy.shares], ".", color=color, alpha=0.35, markersize=4)
        name = ", ".join(row.values.values()) + (" (baseline)" if row is found.baseline else "")
        half = None if accuracy.half is None else 100 * accuracy.half
        axes.errorbar(x, 100 * accuracy.mean, half, fmt=marker, color=color, markersize=5, capsize=3, linewidth=1, label=name)
    axes.set_xlabel(f"10$^6$ multiply-adds (MACs, convention {found.study.convention})", fontsize=_LETTERS + 1)
    axes.set_ylabel("top-1, % of pictures held out", fontsize=_LETTERS + 1)
    axes.tick_params(labelsize=_LETTERS)
    axes.margins(x=0.08)
    axes.grid(visible=True, color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    title = f"{found.study.model} on {data}, input {times(found.study.input_shape)}{matched_text(found.study)}; {seeds} seeds"
    axes.set_title(title, fontsize=_LETTERS + 1, loc="left")
    legend = axes.legend(
        title=", ".join(found.study.axes), fontsize=_LETTERS, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    legend.get_title().set_fontsize(_LETTERS)
    return figure

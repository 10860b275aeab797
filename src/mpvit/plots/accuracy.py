"""Accuracy of networks trained alike over their multiply-adds, with intervals over seeds."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.ablation.study import Ablation
from mpvit.plots import LEGEND, MEDIUM, SMALL, color, marker, style_axes
from mpvit.tables.ablation import matched_text
from mpvit.tables.accuracy import is_baseline
from mpvit.training.metrics import AccuracyComparison
from mpvit.units import times

_MEGA = 1e6
_PERCENT = 100


def cost_accuracy_figure(found: Ablation, data: str) -> Figure:
    """Return one panel with a point per row, Student's 95 % interval over seeds, and a dot per seed.

    The x axis has the multiply-adds or, if all rows have the same, the names of the rows.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    rows = [found.baseline, *(row for row in found.rows if row.accuracy and not is_baseline(found, row))]
    rows.sort(key=lambda row: [_sort_key(value) for value in row.values.values()])
    names = [", ".join(row.values.values()) + (" (baseline)" if row is found.baseline else "") for row in rows]
    same = found.study.match == "macs"
    for number, row in enumerate(rows):
        if row.accuracy and row.cost:
            _draw_point(axes, number, number if same else row.cost.macs / _MEGA, row.accuracy, names[number])
    macs = f"10$^6$ multiply-adds (MACs, convention {found.study.convention})"
    style_axes(axes, ", ".join(found.study.axes) if same else macs, "top-1, % of held-out images")
    axes.margins(x=0.08)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, _PERCENT))  # an interval may reach beyond what a share can be
    axes.set_title(_title(found, data), fontsize=MEDIUM, loc="left")
    if same:
        axes.set_xticks(range(len(rows)), names)
    else:
        title = ", ".join(found.study.axes)
        axes.legend(title=title, title_fontsize=SMALL, loc="center left", bbox_to_anchor=(1, 0.5), **LEGEND)
    return figure


def _draw_point(axes: Axes, number: int, x: float, accuracy: AccuracyComparison, name: str) -> None:
    shares = [_PERCENT * share for share in accuracy.shares]
    axes.plot([x] * len(shares), shares, ".", color=color(number), alpha=0.35, markersize=4)
    half = None if accuracy.half is None else _PERCENT * accuracy.half
    style: dict[str, Any] = {"fmt": marker(number), "color": color(number), "markersize": 5, "capsize": 3, "linewidth": 1}
    axes.errorbar(x, _PERCENT * accuracy.mean, half, label=name, **style)


def _title(found: Ablation, data: str) -> str:
    study, accuracy = found.study, found.baseline.accuracy
    seeds = f"; {len(accuracy.shares)} seeds" if accuracy else ""
    return f"{study.model} on {data}, input {times(study.input_shape)}{matched_text(study)}{seeds}"


def _sort_key(text: str) -> tuple[float, str]:
    """Return a key that sorts numbers by value, before words."""
    try:
        return float(text.removesuffix("x")), text
    except ValueError:
        return float("inf"), text

"""What each edited network is worth beside what it costs: accuracy over multiply-adds, with intervals."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.ablation.study import Ablation
from mpvit.plots import COLORS, MARKERS
from mpvit.tables.ablation import matched_text
from mpvit.tables.accuracy import is_baseline
from mpvit.training.comparison import Accuracy
from mpvit.units import times

_LETTERS = 8
_MEGA = 1e6
_PERCENT = 100


def cost_accuracy_figure(found: Ablation, data: str) -> Figure:
    """Return one panel: a point a row with Student's 95 % interval over seeds, and each seed as a dot behind it.

    It stands over its multiply-adds or, where they were made the same, over its name.
    """
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    rows = [found.baseline, *(row for row in found.rows if row.accuracy and not is_baseline(found, row))]
    rows.sort(key=lambda row: (*map(_number, row.values.values()),))
    names = [", ".join(row.values.values()) + (" (baseline)" if row is found.baseline else "") for row in rows]
    same = found.study.match == "macs"
    for place, row in enumerate(rows):
        if row.accuracy and row.cost:
            _point(axes, place, place if same else row.cost.macs / _MEGA, row.accuracy, names[place])
    macs = f"10$^6$ multiply-adds (MACs, convention {found.study.convention})"
    axes.set_xlabel(", ".join(found.study.axes) if same else macs, fontsize=_LETTERS + 1)
    axes.set_ylabel("top-1, % of pictures held out", fontsize=_LETTERS + 1)
    axes.tick_params(labelsize=_LETTERS)
    axes.margins(x=0.08)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, _PERCENT))  # an interval may reach farther than a share can
    axes.grid(visible=True, color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(_title(found, data), fontsize=_LETTERS + 1, loc="left")
    if same:
        axes.set_xticks(range(len(rows)), names)
    else:
        legend = axes.legend(
            title=", ".join(found.study.axes), fontsize=_LETTERS, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
        )
        legend.get_title().set_fontsize(_LETTERS)
    return figure


def _point(axes: Axes, place: int, x: float, accuracy: Accuracy, name: str) -> None:
    color, marker = COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)]
    shares = [_PERCENT * share for share in accuracy.shares]
    axes.plot([x] * len(shares), shares, ".", color=color, alpha=0.35, markersize=4)
    half = None if accuracy.half is None else _PERCENT * accuracy.half
    mean = _PERCENT * accuracy.mean
    axes.errorbar(x, mean, half, fmt=marker, color=color, markersize=5, capsize=3, linewidth=1, label=name)


def _title(found: Ablation, data: str) -> str:
    study, accuracy = found.study, found.baseline.accuracy
    seeds = f"; {len(accuracy.shares)} seeds" if accuracy else ""
    return f"{study.model} on {data}, input {times(study.input_shape)}{matched_text(study)}{seeds}"


def _number(text: str) -> tuple[float, str]:
    """Return what values are sorted by: numbers as such, others behind them as words."""
    try:
        return float(text.removesuffix("x")), text
    except ValueError:
        return float("inf"), text

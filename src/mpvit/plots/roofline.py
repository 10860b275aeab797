"""The roofline: multiply-adds per second over arithmetic intensity, under the two ceilings of the machine.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", CACM 52 (2009), figure 1.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mpvit.benchmark.results import LayerTime, NetworkTime, Result
from mpvit.benchmark.roofline import Ceilings, RooflinePoint
from mpvit.plots import LEGEND, SMALL, color, marker, plain_log_ticks, style_axes

_LABELLED = 8
"""Number of layers with a label: the slowest."""

_LETTER_WIDTH = 0.6
"""Upper bound of the mean width of the letters of a name, relative to the font size."""

_GREY, _PALE = "0.35", "0.65"
_GIGA = 1e9
_POINTS_PER_INCH = 72

_Point = tuple[float, float]
"""MACs per byte and 10^9 MAC/s."""


class _Mark(NamedTuple):
    """One mark: its series (a mode, or a kind of layer), place, area in square points, and name."""

    series: str
    point: _Point
    area: float
    name: str


def roofline_figure(results: Sequence[Result]) -> Figure:
    """Return the roofline of the layers or, without any, of the networks.

    A result without multiply-adds or time is left out. The area of a layer is its share of the time; that of a network grows
    with its batch, and lines join the batches.
    """
    layers = [result for result in results if isinstance(result, LayerTime) and result.timed.macs_per_s]
    networks = [result for result in results if isinstance(result, NetworkTime) and result.timed.macs_per_s]
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    style_axes(axes, "arithmetic intensity (multiply-adds per byte)", "speed (10$^9$ multiply-adds per second)")
    if results:
        ceilings = results[0].timed.ceilings
        _set_limits(axes, [result.timed for result in layers or networks], ceilings)
        _draw_roof(axes, ceilings)
    if named := _draw_layers(axes, layers) if layers else _draw_networks(axes, networks):
        figure.legend(loc="outside upper center", ncols=4, handletextpad=0.2, columnspacing=1.2, **LEGEND)
        figure.draw_without_rendering()  # the layout decides the size of the axes
        _write_names(axes, named, beside=bool(layers))
    return figure


def _draw_networks(axes: Axes, networks: Sequence[NetworkTime]) -> list[_Mark]:
    """Draw networks, modes by colour and marker, batches by area; return the lowest mark of each model."""
    batches = sorted({network.input_shape[0] for network in networks})
    areas = {batch: 20.0 + 36 * rank for rank, batch in enumerate(batches)}
    marks = [_Mark(each.mode, _point(each.timed), areas[each.input_shape[0]], each.model) for each in networks]
    series = list(dict.fromkeys(mark.series for mark in marks))
    for model, mode in dict.fromkeys((mark.name, mark.series) for mark in marks):
        line = [mark for mark in marks if (mark.name, mark.series) == (model, mode)]
        x, y = zip(*(mark.point for mark in sorted(line, key=lambda mark: mark.area)), strict=True)
        axes.plot(x, y, color=color(series.index(mode)), linewidth=0.8)
    _draw_marks(axes, marks)
    for batch, area in areas.items():
        axes.scatter([], [], s=area, color=_PALE, label=f"batch {batch}")
    return list({mark.name: mark for mark in sorted(marks, key=lambda mark: -mark.point[1])}.values())


def _draw_layers(axes: Axes, layers: Sequence[LayerTime]) -> list[_Mark]:
    """Draw layers, kinds by colour and marker, shares of the time by area; return the marks of the slowest."""
    slowest = sorted(layers, key=lambda layer: -(layer.total_s or 0))  # large marks first, so that small ones stay visible
    sum_s = sum(layer.total_s or 0 for layer in layers)
    several = len({(layer.model, layer.input_shape) for layer in layers}) > 1
    marks = []
    for layer in slowest:
        name = f"{layer.model}, batch {layer.input_shape[0]}: {layer.part}" if several else layer.part
        marks.append(_Mark(layer.kind, _point(layer.timed), 20 + 1500 * (layer.total_s or 0) / sum_s, name))
    _draw_marks(axes, marks)
    return marks[:_LABELLED]


def _draw_marks(axes: Axes, marks: Sequence[_Mark]) -> None:
    for number, series in enumerate(dict.fromkeys(mark.series for mark in marks)):
        own = [mark for mark in marks if mark.series == series]
        style: dict[str, Any] = {"color": color(number), "marker": marker(number), "linewidth": 0.5, "edgecolor": "white"}
        x, y = zip(*(mark.point for mark in own), strict=True)
        axes.scatter(x, y, s=[mark.area for mark in own], zorder=3, **style)
        axes.scatter([], [], s=36, label=series, **style)


def _point(timed: RooflinePoint) -> _Point:
    return timed.work.intensity, (timed.macs_per_s or 0) / _GIGA


def _set_limits(axes: Axes, shown: Sequence[RooflinePoint], ceilings: Ceilings) -> None:
    """Leave room for every point, for the ridge where both ceilings meet, and for names."""
    across, up = [list(each) for each in zip(*map(_point, shown), strict=True)] or [[], []]
    if ceilings.macs_per_s and ceilings.bytes_per_s:
        across.append(ceilings.macs_per_s / ceilings.bytes_per_s)
        up.append(ceilings.macs_per_s / _GIGA)
    if across:
        axes.set(xlim=(min(across) / 1.5, max(across) * 1.5), ylim=(min(up) / 1.8, max(up) * 1.5))
    plain_log_ticks(axes)


def _draw_roof(axes: Axes, ceilings: Ceilings) -> None:
    """Draw the ceilings that are known; the legend names them, because names on the lines would cover points."""
    left, right = axes.get_xlim()
    flat, slope = (ceilings.macs_per_s or 0) / _GIGA, (ceilings.bytes_per_s or 0) / _GIGA
    ridge = flat / slope if flat and slope else right if slope else left
    style: dict[str, Any] = {"color": _GREY, "linewidth": 1.2}
    if flat:
        axes.plot([ridge, right], [flat, flat], label=f"matrix product, {flat:.3g} GMAC/s", **style)
    if slope:
        ends = [left * slope, ridge * slope]
        axes.plot([left, ridge], ends, linestyle=(0, (4, 1.5)), label=f"copy, {slope:.3g} GB/s", **style)


def _write_names(axes: Axes, named: Sequence[_Mark], *, beside: bool) -> None:
    """Write names in a column to the right of the axes or in a row below all points, each as near to its point as fits."""
    box = axes.get_window_extent()
    letter = SMALL * axes.figure.dpi / _POINTS_PER_INCH
    shape = {"relpos": (0, 0.5), "shrinkB": 0} if beside else {"relpos": (0.5, 1), "shrinkB": 4}
    arrow = {"arrowstyle": "-", "color": _GREY, "linewidth": 0.5, "shrinkA": 1, **shape}
    align = {"ha": "left", "va": "center"} if beside else {"ha": "center", "va": "bottom"}
    taken = 0.0
    in_pixels = [(mark.name, mark.point, axes.transData.transform(mark.point)) for mark in named]
    for text, point, (x, y) in sorted(in_pixels, key=lambda each: -each[2][1] if beside else each[2][0]):
        half = 0.7 * letter if beside else (_LETTER_WIDTH * len(text) + 1) * letter / 2
        middle = max(box.y1 - y if beside else x - box.x0, taken + half)
        taken = middle + half
        where = (1.02, 1 - middle / box.height) if beside else (middle / box.width, 0.02)
        style: dict[str, Any] = {"textcoords": "axes fraction", "fontsize": SMALL, "arrowprops": arrow, "zorder": 4, **align}
        axes.annotate(text, point, xytext=where, **style)

"""The roofline: achieved multiply-adds per second over arithmetic intensity, under the machine's two ceilings.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", CACM 52 (2009), figure 1.
"""

from collections.abc import Sequence
from math import atan2, degrees, hypot, log10, sqrt
from typing import Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from mpvit.benchmark.results import LayerTime, NetworkTime, Result
from mpvit.benchmark.roofline import Ceilings
from mpvit.plots import COLORS, MARKERS

_LABELLED = 8
"""Layers that get a label of their own: those that take longest."""

_LETTERS = 8
"""Size of the letters, in points."""

_GREY = "0.35"
_GIGA = 1e9
_SIDES = ((1, 0.2), (-1, 0.2), (1, -1), (-1, -1), (1, 1), (-1, 1), (0, 1.2), (0, -1.4))
_OFFSETS = [(x * points, y * points) for points in (11, 17, 25, 36) for x, y in _SIDES]
"""From a point to its label, in points: the first place that is free is taken."""

_WIDE = 50
"""The largest over the smallest value of an axis, from which on powers of ten are ticks enough."""

_POINTS_PER_INCH = 72
_FAR = 13
"""Points from which on a line joins a label and its point."""


class _Point(NamedTuple):
    """A point: MACs per byte, 10^9 MAC/s, the series that gives its colour, its label (may be empty), its area."""

    intensity: float
    speed: float
    series: str
    label: str
    area: float


def roofline_figure(results: Sequence[Result]) -> Figure:
    """Return the roofline of the layers where there are any, of the networks else.

    What has no multiply-adds or was not measured has no place on it. The area of a layer's point is its share of time.
    """
    layers = [result for result in results if isinstance(result, LayerTime)]
    networks = [result for result in results if isinstance(result, NetworkTime)]
    points = _layer_points(layers) if layers else _network_points(networks)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set(xlabel="arithmetic intensity (multiply-adds per byte)", ylabel="speed (10$^9$ multiply-adds per second)")
    axes.grid(visible=True, which="major", color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    series = list(dict.fromkeys(point.series for point in points))
    for number, name in enumerate(series):
        _draw_series(axes, [point for point in points if point.series == name], name, number)
    ceilings = results[0].timed.ceilings if results else None
    _set_limits(axes, points, ceilings)
    taken = [] if ceilings is None else _draw_roof(figure, axes, ceilings)
    if len(series) > 1:
        axes.legend(fontsize=_LETTERS, frameon=False, loc="lower right")
    figure.draw_without_rendering()  # the layout decides where on paper everything is
    _place_labels(axes, points, [COLORS[series.index(point.series) % len(COLORS)] for point in points], taken)
    return figure


def _network_points(networks: Sequence[NetworkTime]) -> list[_Point]:
    return [
        _Point(network.timed.work.intensity, rate / _GIGA, network.mode, f"{network.model}, batch {network.input_shape[0]}", 40)
        for network in networks
        if (rate := network.timed.macs_per_s)
    ]


def _layer_points(layers: Sequence[LayerTime]) -> list[_Point]:
    """Return the layers from the one that takes longest on, so that small points lie above large ones."""
    slowest = sorted(layers, key=lambda layer: -(layer.total_s or 0))
    sum_s = sum(layer.total_s or 0 for layer in layers) or 1
    points: list[_Point] = []
    for layer in slowest:
        if rate := layer.timed.macs_per_s:
            label = layer.part if len(points) < _LABELLED else ""
            area = 12 + 1500 * (layer.total_s or 0) / sum_s
            points.append(_Point(layer.timed.work.intensity, rate / _GIGA, layer.kind, label, area))
    return points


def _draw_series(axes: Axes, points: Sequence[_Point], name: str, number: int) -> None:
    axes.scatter(
        [point.intensity for point in points],
        [point.speed for point in points],
        s=[point.area for point in points],
        color=COLORS[number % len(COLORS)],
        marker=MARKERS[number % len(MARKERS)],
        alpha=0.75,
        linewidth=0.5,
        edgecolor="white",
        label=name,
        zorder=3,
    )


def _set_limits(axes: Axes, points: Sequence[_Point], ceilings: Ceilings | None) -> None:
    """Leave room for every point, for the ridge where both ceilings meet, and for labels; write numbers in full."""
    across, up = [point.intensity for point in points], [point.speed for point in points]
    if ceilings and ceilings.macs_per_s and ceilings.bytes_per_s:
        across.append(ceilings.macs_per_s / ceilings.bytes_per_s)
        up.append(ceilings.macs_per_s / _GIGA)
    if across:
        axes.set_xlim(min(across) / 4, max(across) * 5)
        axes.set_ylim(min(up) / 2.5, max(up) * 2.5)
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > _WIDE else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _draw_roof(figure: Figure, axes: Axes, ceilings: Ceilings) -> list[Bbox]:
    """Draw what is known of the roof, named along its lines; return the places that lines and names take."""
    figure.draw_without_rendering()  # the layout decides how wide and high the axes are
    left, right = axes.get_xlim()
    flat, slope = (ceilings.macs_per_s or 0) / _GIGA, (ceilings.bytes_per_s or 0) / _GIGA
    ridge = min(flat / slope, right) if flat and slope else right if slope else left
    taken = []
    if slope:
        middle = ridge * (max(left, axes.get_ylim()[0] / slope) / ridge) ** 0.4
        taken += _line(axes, (left, left * slope), (ridge, ridge * slope))
        taken.append(_name(axes, middle, middle * slope, f"copy, {slope:.3g} GB/s", "center", _slope_degrees(axes)))
    if flat:
        taken += _line(axes, (ridge, flat), (right, flat))
        taken.append(_name(axes, right, flat, f"matrix product, {flat:.3g} GMAC/s", "right"))
    return taken


def _line(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> list[Bbox]:
    """Draw a line of the roof; return small boxes along it."""
    axes.plot([start[0], end[0]], [start[1], end[1]], color=_GREY, linewidth=1.2)
    (x0, y0), (x1, y1) = axes.transData.transform([start, end])
    steps = [step / 60 for step in range(61)]
    return [Bbox.from_bounds(x0 + step * (x1 - x0) - 1, y0 + step * (y1 - y0) - 1, 2, 2) for step in steps]


def _name(axes: Axes, x: float, y: float, text: str, side: Literal["center", "right"], degrees_up: float = 0.0) -> Bbox:
    """Write the name of a line above it; return the place that it takes."""
    written = axes.annotate(
        text,
        (x, y),
        xytext=(0, 4) if not degrees_up else (-3, 4),
        textcoords="offset points",
        rotation=degrees_up,
        rotation_mode="anchor",
        ha=side,
        va="bottom",
        fontsize=_LETTERS,
        color=_GREY,
    )
    return written.get_window_extent()


def _slope_degrees(axes: Axes) -> float:
    """Return the angle on paper of a line that grows as x does."""
    box = axes.get_window_extent()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    return degrees(atan2(box.height / log10(top / bottom), box.width / log10(right / left)))


def _place_labels(axes: Axes, points: Sequence[_Point], colors: Sequence[str], taken: Sequence[Bbox]) -> None:
    """Write each label beside its point, where it covers neither another label nor a point, as far as there is room."""
    room, boxes = axes.get_window_extent(), list(taken)
    marks = [_mark(axes, point) for point in points]
    if legend := axes.get_legend():
        boxes.append(legend.get_window_extent())
    for point, color, mark in zip(points, colors, marks, strict=True):
        if not point.label:
            continue
        costs = []
        for offset in _OFFSETS:
            text = _label(axes, point, color, offset)
            box = text.get_window_extent()
            text.remove()
            reach = Bbox.union([box, mark])  # nothing between point and label
            hidden = sum(box.overlaps(other) for other in boxes)
            hidden += sum(reach.overlaps(other) for other in marks if other is not mark)
            outside = box.x0 < room.x0 or box.x1 > room.x1 or box.y0 < room.y0 or box.y1 > room.y1
            costs.append(hidden + 2 * outside)
        offset = _OFFSETS[costs.index(min(costs))]
        boxes.append(_label(axes, point, color, offset).get_window_extent())
        if hypot(*offset) >= _FAR:
            line = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
            place = (point.intensity, point.speed)
            axes.annotate("", place, xytext=offset, textcoords="offset points", arrowprops=line)


def _mark(axes: Axes, point: _Point) -> Bbox:
    """Return the place that a point's mark takes."""
    x, y = axes.transData.transform((point.intensity, point.speed))
    side = 0.8 * sqrt(point.area) * axes.figure.dpi / _POINTS_PER_INCH
    return Bbox.from_bounds(x - side / 2, y - side / 2, side, side)


def _label(axes: Axes, point: _Point, color: str, offset: tuple[float, float]) -> Annotation:
    x, y = offset
    return axes.annotate(
        point.label,
        (point.intensity, point.speed),
        xytext=offset,
        textcoords="offset points",
        ha="left" if x > 0 else "right" if x < 0 else "center",
        va="center" if abs(y) < abs(x) / 2 else "bottom" if y > 0 else "top",
        fontsize=_LETTERS,
        color=color,
        zorder=4,
    )

"""The roofline: achieved multiply-adds per second over arithmetic intensity, under the machine's two ceilings.

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model", CACM 52 (2009), figure 1.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mpvit.benchmark.results import LayerTime, NetworkTime, Result
from mpvit.benchmark.roofline import Ceilings, Timed
from mpvit.plots import COLORS, MARKERS

_LABELLED = 8
"""Layers that get a label of their own: those that take longest."""

_LETTERS = 8
"""Size of the letters, in points."""

_LETTER_WIDTH = 0.6
"""Of their size: no name of some length is wider."""

_GREY = "0.35"
_FAINT = "0.65"
_GIGA = 1e9
_POINTS_PER_INCH = 72

_WIDE = 50
"""The largest over the smallest value of an axis, from which on powers of ten are ticks enough."""

_Place = tuple[float, float]
"""MACs per byte and 10^9 MAC/s."""

_Named = tuple[str, _Place]


def roofline_figure(results: Sequence[Result]) -> Figure:
    """Return the roofline of the layers where there are any, of the networks else.

    What has no multiply-adds or was not measured has no place on it. A layer's area is its share of time; a network's grows
    with its batch, and lines join its batches.
    """
    layers = [result for result in results if isinstance(result, LayerTime) and result.timed.macs_per_s]
    networks = [result for result in results if isinstance(result, NetworkTime) and result.timed.macs_per_s]
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    axes.set(xlabel="arithmetic intensity (multiply-adds per byte)", ylabel="speed (10$^9$ multiply-adds per second)")
    axes.grid(visible=True, which="major", color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if results:
        ceilings = results[0].timed.ceilings
        _set_limits(axes, [result.timed for result in layers or networks], ceilings)
        _draw_roof(axes, ceilings)
    if named := _draw_layers(axes, layers) if layers else _draw_networks(axes, networks):
        figure.legend(
            loc="outside upper center", ncols=4, fontsize=_LETTERS, frameon=False, handletextpad=0.2, columnspacing=1.2
        )
        figure.draw_without_rendering()  # the layout decides how large the axes are
        _write_names(axes, named, beside=bool(layers))
    return figure


def _draw_networks(axes: Axes, networks: Sequence[NetworkTime]) -> list[_Named]:
    """Draw networks, their modes by colour and shape, their batches by size; return each model's name and lowest point."""
    modes = list(dict.fromkeys(network.mode for network in networks))
    batches = sorted({network.input_shape[0] for network in networks})
    areas = {batch: 20.0 + 36 * rank for rank, batch in enumerate(batches)}
    lines: dict[tuple[str, str], list[NetworkTime]] = {}
    for network in sorted(networks, key=lambda network: network.input_shape[0]):
        lines.setdefault((network.model, network.mode), []).append(network)
    for (_, mode), line in lines.items():
        number = modes.index(mode)
        x, y = zip(*(_place(network.timed) for network in line), strict=True)
        axes.plot(x, y, color=COLORS[number % len(COLORS)], linewidth=0.8)
        _marks(axes, x, y, number, [areas[network.input_shape[0]] for network in line])
    for number, mode in enumerate(modes):
        _marks(axes, [], [], number, 36, mode)
    for batch in batches:
        axes.scatter([], [], s=areas[batch], color=_FAINT, label=f"batch {batch}")
    lowest: dict[str, _Place] = {}
    for network in sorted(networks, key=lambda network: network.timed.macs_per_s or 0):
        lowest.setdefault(network.model, _place(network.timed))
    return list(lowest.items())


def _draw_layers(axes: Axes, layers: Sequence[LayerTime]) -> list[_Named]:
    """Draw layers, their kinds by colour and shape; return the names and points of those that take longest."""
    slowest = sorted(layers, key=lambda layer: -(layer.total_s or 0))  # drawn first: small marks lie above large ones
    sum_s = sum(layer.total_s or 0 for layer in layers)
    for number, kind in enumerate(dict.fromkeys(layer.kind for layer in slowest)):
        same = [layer for layer in slowest if layer.kind == kind]
        x, y = zip(*(_place(layer.timed) for layer in same), strict=True)
        _marks(axes, x, y, number, [20 + 1500 * (layer.total_s or 0) / sum_s for layer in same])
        _marks(axes, [], [], number, 36, kind)
    several = len({(layer.model, layer.input_shape) for layer in layers}) > 1
    return [
        (f"{layer.model}, batch {layer.input_shape[0]}: {layer.part}" if several else layer.part, _place(layer.timed))
        for layer in slowest[:_LABELLED]
    ]


def _place(timed: Timed) -> _Place:
    return timed.work.intensity, (timed.macs_per_s or 0) / _GIGA


def _marks(
    axes: Axes, x: Sequence[float], y: Sequence[float], number: int, areas: float | Sequence[float], label: str = ""
) -> None:
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    axes.scatter(x, y, s=areas, color=color, marker=marker, linewidth=0.5, edgecolor="white", label=label or None, zorder=3)


def _set_limits(axes: Axes, shown: Sequence[Timed], ceilings: Ceilings) -> None:
    """Leave room for every point, for the ridge where both ceilings meet, and for names; write numbers in full."""
    across, up = [list(each) for each in zip(*map(_place, shown), strict=True)] or [[], []]
    if ceilings.macs_per_s and ceilings.bytes_per_s:
        across.append(ceilings.macs_per_s / ceilings.bytes_per_s)
        up.append(ceilings.macs_per_s / _GIGA)
    if across:
        axes.set_xlim(min(across) / 1.5, max(across) * 1.5)
        axes.set_ylim(min(up) / 1.8, max(up) * 1.5)
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > _WIDE else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _draw_roof(axes: Axes, ceilings: Ceilings) -> None:
    """Draw what is known of the roof; the legend names its lines, as a name on them would lie over points."""
    left, right = axes.get_xlim()
    flat, slope = (ceilings.macs_per_s or 0) / _GIGA, (ceilings.bytes_per_s or 0) / _GIGA
    ridge = flat / slope if flat and slope else right if slope else left
    style: dict[str, Any] = {"color": _GREY, "linewidth": 1.2}
    if flat:
        axes.plot([ridge, right], [flat, flat], label=f"matrix product, {flat:.3g} GMAC/s", **style)
    if slope:
        ends = [left * slope, ridge * slope]
        axes.plot([left, ridge], ends, linestyle=(0, (4, 1.5)), label=f"copy, {slope:.3g} GB/s", **style)


def _write_names(axes: Axes, named: Sequence[_Named], *, beside: bool) -> None:
    """Write names in a column beside the axes or in a row under all points, each as near to its own as the others let it."""
    box = axes.get_window_extent()
    letter = _LETTERS * axes.figure.dpi / _POINTS_PER_INCH
    taken = 0.0
    on_paper = [(text, place, axes.transData.transform(place)) for text, place in named]
    for text, place, (x, y) in sorted(on_paper, key=lambda each: -each[2][1] if beside else each[2][0]):
        half = 0.7 * letter if beside else (_LETTER_WIDTH * len(text) + 1) * letter / 2
        middle = max(box.y1 - y if beside else x - box.x0, taken + half)
        taken = middle + half
        axes.annotate(
            text,
            place,
            xytext=(1.02, 1 - middle / box.height) if beside else (middle / box.width, 0.02),
            textcoords="axes fraction",
            ha="left" if beside else "center",
            va="center" if beside else "bottom",
            fontsize=_LETTERS,
            arrowprops={
                "arrowstyle": "-",
                "color": _GREY,
                "linewidth": 0.5,
                "relpos": (0, 0.5) if beside else (0.5, 1),
                "shrinkA": 1,
                "shrinkB": 0 if beside else 4,
            },
            zorder=4,
        )

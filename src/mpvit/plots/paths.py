"""The views of a network's paths: receptive fields and attention maps over an image; contributions and similarities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mpvit.paths.results import Contribution, EffectiveField, Similarity, TokenAttention
from mpvit.plots import DASHED, LEGEND, MEDIUM, SMALL, color, style_bars
from mpvit.tables.paths import short_name
from mpvit.training.metrics import wilson

if TYPE_CHECKING:
    from mpvit.paths.views import View

_PALE, _PALER = 0.45, 0.25
"""Contrast of an image below lines, and below colours."""

_BEYOND = 0.75
"""How far a panel of fields may reach beyond the image, as a share of the side of the image."""

_DARK = 0.6
"""Value from which black numbers cannot be read on the colour of a cell."""

_NUMBERED = 24
"""Largest number of rows of a matrix whose numbers fit."""


def view_figure(view: View) -> Figure:
    """Return the figure of a view."""
    network = view.network.model if view.network.trained else f"{view.network.model}, untrained,"
    images, number = view.images, len(view.images.split)
    title = f"{network} on {images.name}" + (f": {number} images" if number > 1 else "")
    if view.name == "fields":
        return fields_figure(view.results, images.displayed(0), title)
    if view.name != "attention":
        return (contribution_figure if view.name == "contribution" else similarity_figure)(view.results, title)
    shown = view.results.shown
    which = f"head {shown[0].head}" if _has_several_paths(shown) else f"path {shown[0].path}"
    title = f"{network} on {images.split.name(0)}\nstage {shown[0].stage}, {which}"
    return attention_maps_figure(shown, images.displayed(0), title)


def _draw_image(axes: Axes, image: NDArray[np.float64], contrast: float) -> None:
    """Draw an image, (h, w, 3) in [0, 1], in pale greys, so that colours stand out on it."""
    grey = image.mean(2)
    axes.imshow(1 - contrast * (1 - grey), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xlim=(-0.5, grey.shape[1] - 0.5), ylim=(grey.shape[0] - 0.5, -0.5), xticks=[], yticks=[])


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fields_figure(found: Sequence[EffectiveField], image: NDArray[np.float64], title: str) -> Figure:
    """Return a column per stage, after the embedding and after the path's layers; outlines hold half of the energy."""
    stages = [list(group) for _, group in groupby(found, lambda each: each.field.stage)]
    figure = Figure(figsize=(max(2.1 * len(stages), 4.4), 5.2), layout="constrained")
    panels = figure.subplots(2, len(stages), squeeze=False)
    for stage, (above, below) in zip(stages, panels.T, strict=True):
        for axes in (above, below):
            _draw_image(axes, image, _PALE)
            for each in stage:
                _draw_outline(axes, each, each.embedded if axes is above else each.encoded)
                if axes is above:
                    _draw_receptive_field(axes, each)
            axes.plot(*stage[0].token, "+", color="black", markersize=6, markeredgewidth=1)
            _set_window(axes, stage)
        above.set_title(f"stage {stage[0].field.stage}", fontsize=MEDIUM)
        first, last = below.get_xlim()
        below.set_xlabel(f"{last - first:.0f} pixels wide", fontsize=SMALL)
    for axes, text in zip(panels[:, 0], ("after the embedding", "after the path's layers"), strict=True):
        axes.set_ylabel(text, fontsize=MEDIUM)
    paths = sorted({each.field.path for each in found})
    handles = [Line2D([], [], color=color(path - 1), label=f"path {path}") for path in paths]
    handles.append(Line2D([], [], color="0.35", linewidth=1.4, label="half of the energy"))
    handles.append(Line2D([], [], color="0.35", linewidth=1, linestyle=DASHED, label="receptive field"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, **LEGEND)
    figure.suptitle(title, fontsize=MEDIUM)
    return figure


def _draw_outline(axes: Axes, found: EffectiveField, shares: NDArray[np.float64]) -> None:
    """Draw a line around the pixels with the most energy, which hold half of it; smoothed by a quarter of a token."""
    smooth = smoothed(shares, found.field.token_stride / 4)
    values = np.sort(smooth.ravel())[::-1]
    level = values[np.searchsorted(values.cumsum(), values.sum() / 2)]
    down, across = (np.clip(np.arange(-1, length + 1), -0.5, length - 0.5) for length in smooth.shape)
    closed = np.pad(smooth, 1)  # a line that reaches the edge of the image follows it
    axes.contour(across, down, closed, levels=[level], colors=[color(found.field.path - 1)], linewidths=1.4)


def smoothed(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return a map blurred by a Gaussian of ``sigma`` pixels, mirrored at its edges: (h, w) -> (h, w)."""
    reach = max(round(3 * sigma), 1)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)], mode="symmetric")
        values = np.apply_along_axis(np.convolve, axis, padded, taps, mode="valid")
    return values


def _set_window(axes: Axes, stage: Sequence[EffectiveField]) -> None:
    """Show as much around the token as the fields of its stage need, also beyond the image, and frame the image."""
    height, width = stage[0].embedded.shape
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor="0.4", linewidth=0.8))
    axes.spines[:].set_visible(False)
    side = max(each.field.receptive_field for each in stage)
    near = max(side, *(4 * max(each.radius, each.output_radius) for each in stage))
    beyond = _BEYOND * max(height, width)
    spans = []
    for at, length in zip(stage[0].token, (width, height), strict=True):
        first, last = at - side / 2 - 1, at + side / 2 + 1
        first = at - near if at - near > 0 else max(min(first, -1), -beyond)
        last = at + near if at + near < length else min(max(last, length), length + beyond)
        spans.append((first, last))
    axes.set(xlim=spans[0], ylim=spans[1][::-1])


def _draw_receptive_field(axes: Axes, found: EffectiveField) -> None:
    (x, y), side = found.token, found.field.receptive_field
    corner, own = (x - side / 2, y - side / 2), color(found.field.path - 1)
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=own, linewidth=1, linestyle=DASHED))


# ── contribution ────────────────────────────────────────────────────────────────────────────────────────────────────

_TICK: dict[str, Any] = {"color": "black", "markersize": 9, "markeredgewidth": 1.4}
_ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0, **LEGEND}


def contribution_figure(found: Sequence[Contribution], title: str) -> Figure:
    """Return two panels with one row per branch: its share of the fusion's output, and the accuracy without it."""
    figure = Figure(figsize=(6.8, 0.27 * len(found) + 1.5), layout="constrained")
    shares, accuracy = figure.subplots(1, 2, sharey=True)
    rows = [index + 0.5 * (each.stage - found[0].stage) for index, each in enumerate(found)]  # a gap between stages
    for each, y in zip(found, rows, strict=True):
        own = "0.55" if each.branch == "local" else color(int(each.branch.split()[1]) - 1)
        shares.barh(y, 100 * each.share, height=0.62, color=own, linewidth=0)
        shares.plot(100 * each.varying_share, y, "|", **_TICK)
        if each.ablation:
            low, high = (100 * end for end in each.ablation.interval)
            accuracy.plot([low, high], [y, y], color=own, linewidth=2)
            accuracy.plot(100 * each.ablation.correct / each.ablation.images, y, "o", color=own, markersize=4.5)
    shares.set_yticks(rows, [f"stage {each.stage}  {each.branch}" for each in found])
    shares.set_ylim(rows[-1] + 0.6, -0.6)
    shares.axvline(0, color="0.3", linewidth=0.7)
    tick = Line2D([], [], marker="|", linestyle="none", label="share of the differences between images", **_TICK)
    shares.legend(handles=[tick], **_ABOVE)
    if known := found[0].ablation:
        low, high = wilson(known.intact, known.images)
        accuracy.axvspan(100 * low, 100 * high, color="0.85", linewidth=0, zorder=0)
        intact = 100 * known.intact / known.images
        accuracy.axvline(intact, color="0.3", linewidth=0.8, linestyle=DASHED, label=f"intact, {intact:.1f} %, with interval")
        accuracy.legend(**_ABOVE)
    for axes, label in ((shares, "share of the fusion's output, %"), (accuracy, "top-1 without the branch, %, 95 % interval")):
        style_bars(axes, label)
        axes.grid(visible=True, axis="x", color="0.93", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.suptitle(title, fontsize=MEDIUM)
    return figure


# ── similarity ──────────────────────────────────────────────────────────────────────────────────────────────────────


def similarity_figure(found: Similarity, title: str) -> Figure:
    """Return the matrix, with its numbers if there is room, and lines between stages."""
    count = len(found.names)
    figure = Figure(figsize=(0.36 * count + 2.0, 0.36 * count + 1.3), layout="constrained")
    axes = figure.add_subplot()
    values = np.array([[np.nan if value is None else value for value in line] for line in found.matrix])
    cells = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), [short_name(name) for name in found.names], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), found.names)
    axes.tick_params(labelsize=SMALL, length=0)
    axes.spines[:].set_visible(False)
    if count <= _NUMBERED:
        for (down, across), value in np.ndenumerate(values):
            text, ink = "–" if np.isnan(value) else f"{value:.2f}", "white" if value > _DARK else "black"
            axes.text(across, down, text, ha="center", va="center", fontsize=SMALL - 2, color=ink)
    for row in range(1, count):
        if found.names[row].split()[1] != found.names[row - 1].split()[1]:
            axes.axhline(row - 0.5, color="white", linewidth=2)
            axes.axvline(row - 0.5, color="white", linewidth=2)
    bar = _color_bar(figure, cells, axes, "linear CKA", shrink=0.7)
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=MEDIUM)
    return figure


def _color_bar(figure: Figure, cells: Any, axes: Any, label: str, **options: Any) -> Any:  # noqa: ANN401 - matplotlib's types
    bar = figure.colorbar(cells, ax=axes, pad=0.02, **options)
    bar.set_label(label, fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    return bar


# ── attention ───────────────────────────────────────────────────────────────────────────────────────────────────────


def attention_maps_figure(found: Sequence[TokenAttention], image: NDArray[np.float64], title: str) -> Figure:
    """Return a column per map: the weights of the network's own attention, and of full attention, for one token."""
    figure = Figure(figsize=(1.9 * len(found) + 0.9, 4.3), layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False)
    cells: Any = None
    for each, column in zip(found, panels.T, strict=True):
        for axes, weights in zip(column, (each.implied, each.full), strict=True):
            _draw_image(axes, image, _PALER)
            cells = _draw_weights(axes, weights, each)
        name = f"path {each.path}" if _has_several_paths(found) else f"head {each.head}"
        column[0].set_title(name, fontsize=MEDIUM)
    for axes, text in zip(panels[:, 0], ("implied by the network", "full softmax attention"), strict=True):
        axes.set_ylabel(text, fontsize=MEDIUM)
    _color_bar(figure, cells, panels, "weight ÷ largest of the map", shrink=0.6, ticks=[-1, 0, 1])
    figure.suptitle(title, fontsize=MEDIUM)
    return figure


def _has_several_paths(found: Sequence[TokenAttention]) -> bool:
    return len({each.path for each in found}) > 1


def _draw_weights(axes: Axes, weights: NDArray[np.float64], found: TokenAttention) -> Any:  # noqa: ANN401 - for a colour bar
    """Draw the weights of a token over the image, red above 0 and blue below, and a frame around the token.

    A pixel belongs to the nearest token.
    """
    largest = float(np.abs(weights).max()) or 1.0
    limits = (axes.get_xlim(), axes.get_ylim()[::-1])
    across, down = (
        np.array([first, *(np.arange(1, count) - 0.5) * found.stride, last])
        for (first, last), count in zip(limits, reversed(weights.shape), strict=True)
    )
    mesh = axes.pcolormesh(across, down, weights / largest, cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.75, linewidth=0)
    mesh.set_rasterized(True)  # otherwise the seams between its cells are visible
    column, row = found.token
    corner, end = (across[column], down[row]), (across[column + 1], down[row + 1])
    axes.add_patch(Rectangle(corner, end[0] - corner[0], end[1] - corner[1], fill=False, edgecolor="black", linewidth=1.4))
    axes.set_xlabel(f"sum {weights.sum():.2f}, largest {largest:.2g}".replace("-", "−"), fontsize=SMALL - 1)
    return mesh

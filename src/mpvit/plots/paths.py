"""What each path sees, over a picture: fields, maps between tokens; and how much it brings, and how alike paths are."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from mpvit.plots import COLORS
from mpvit.tables.paths import short_name
from mpvit.training.results import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from mpvit.paths.results import Attended, Contribution, Effective, Similarity

_LETTERS = 8
_PALE, _PALER = 0.45, 0.25
"""How much of a picture's contrast stays below lines, and below colours."""

_FARTHEST = 0.75
"""How far a panel of fields goes beyond the picture, as a share of its side."""

_DARK = 0.6
"""From here on black numbers cannot be read."""

_NUMBERED = 24
"""Rows of a matrix whose numbers still fit."""


def _color(path: int) -> str:
    return COLORS[(path - 1) % len(COLORS)]


def _picture(axes: Axes, picture: NDArray[np.float64], contrast: float = _PALE) -> None:
    """Draw a picture, (h, w, 3) in [0, 1], pale and without colour, so that what is in colour is seen on it."""
    grey = picture.mean(2)
    axes.imshow(1 - contrast * (1 - grey), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xlim(-0.5, grey.shape[1] - 0.5)
    axes.set_ylim(grey.shape[0] - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])


# ── fields ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def fields_figure(found: Sequence[Effective], picture: NDArray[np.float64], title: str) -> Figure:
    """Return a panel a stage, embedded above and behind the layers below, with an outline a path around half of the energy."""
    stages = [list(group) for _, group in groupby(found, lambda each: each.field.stage)]
    figure = Figure(figsize=(max(2.1 * len(stages), 4.4), 5.2), layout="constrained")
    panels = figure.subplots(2, len(stages), squeeze=False)
    for column, stage in enumerate(stages):
        for row, axes in enumerate(panels[:, column]):
            _picture(axes, picture)
            for each in stage:
                _outline(axes, each, each.encoded if row else each.embedded)
                if row == 0:
                    _square(axes, each)
            axes.plot(*stage[0].token, "+", color="black", markersize=6, markeredgewidth=1)
            _focus(axes, stage)
        panels[0, column].set_title(f"stage {stage[0].field.stage}", fontsize=_LETTERS + 1)
        first, last = panels[1, column].get_xlim()
        panels[1, column].set_xlabel(f"{last - first:.0f} pixels across", fontsize=_LETTERS)
    for axes, text in zip(panels[:, 0], ("embedded", "behind the path's layers"), strict=True):
        axes.set_ylabel(text, fontsize=_LETTERS + 1)
    paths = sorted({each.field.path for each in found})
    handles = [Line2D([], [], color=_color(path), label=f"path {path}") for path in paths]
    handles.append(Line2D([], [], color="0.35", linewidth=1.4, label="half of the energy"))
    handles.append(Line2D([], [], color="0.35", linewidth=1, linestyle=(0, (4, 2)), label="receptive field"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=_LETTERS, frameon=False)
    figure.suptitle(title, fontsize=_LETTERS + 1)
    return figure


def _outline(axes: Axes, found: Effective, shares: NDArray[np.float64]) -> None:
    """Draw a line around the pixels that hold the most energy, half of it together; smoothed by a quarter of a token."""
    smooth = smoothed(shares, found.field.token_stride / 4)
    values = np.sort(smooth.ravel())[::-1]
    level = values[np.searchsorted(values.cumsum(), values.sum() / 2)]
    down, across = (np.clip(np.arange(-1, length + 1), -0.5, length - 0.5) for length in smooth.shape)
    closed = np.pad(smooth, 1)  # a line that meets the picture's edge goes along it
    axes.contour(across, down, closed, levels=[level], colors=[_color(found.field.path)], linewidths=1.4)


def smoothed(values: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """Return a map blurred by a Gaussian, in pixels, and mirrored at its edges: (h, w) -> (h, w)."""
    reach = max(round(3 * sigma), 1)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if axis == each else (0, 0) for each in (0, 1)], mode="symmetric")
        values = np.apply_along_axis(np.convolve, axis, padded, taps, mode="valid")
    return values


def _focus(axes: Axes, stage: Sequence[Effective]) -> None:
    """Show as much around the token as its stage's fields need, also beyond the picture, and frame the picture."""
    height, width = stage[0].embedded.shape
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor="0.4", linewidth=0.8))
    axes.spines[:].set_visible(False)
    side = max(each.field.receptive_field for each in stage)
    near = max(side, *(4 * max(each.radius, each.output_radius) for each in stage))
    beyond = _FARTHEST * max(height, width)
    spans = []
    for at, length in zip(stage[0].token, (width, height), strict=True):
        first, last = at - side / 2 - 1, at + side / 2 + 1
        first = at - near if at - near > 0 else max(min(first, -1), -beyond)
        last = at + near if at + near < length else min(max(last, length), length + beyond)
        spans.append((first, last))
    axes.set_xlim(spans[0])
    axes.set_ylim(spans[1][::-1])


def _square(axes: Axes, found: Effective) -> None:
    """Draw the receptive field."""
    (x, y), side = found.token, found.field.receptive_field
    corner = (x - side / 2, y - side / 2)
    axes.add_patch(
        Rectangle(corner, side, side, fill=False, edgecolor=_color(found.field.path), linewidth=1, linestyle=(0, (4, 2)))
    )


# ── contribution ────────────────────────────────────────────────────────────────────────────────────────────────────


def contribution_figure(found: Sequence[Contribution], title: str) -> Figure:
    """Return two panels with a row a branch: its share of the fusion's output, and the accuracy without it."""
    figure = Figure(figsize=(6.8, 0.27 * len(found) + 1.5), layout="constrained")
    shares, accuracy = figure.subplots(1, 2, sharey=True)
    places = _rows(found)
    for each, place in zip(found, places, strict=True):
        color = "0.55" if each.branch == "local" else _color(int(each.branch.split()[1]))
        shares.barh(place, 100 * each.share, height=0.62, color=color, linewidth=0)
        shares.plot(100 * each.varying_share, place, "|", color="black", markersize=9, markeredgewidth=1.4)
        if each.silenced:
            low, high = (100 * end for end in each.silenced.interval)
            accuracy.plot([low, high], [place, place], color=color, linewidth=2)
            accuracy.plot(100 * each.silenced.correct / each.silenced.images, place, "o", color=color, markersize=4.5)
    shares.set_yticks(places, [f"stage {each.stage}  {each.branch}" for each in found])
    shares.set_ylim(places[-1] + 0.6, -0.6)
    shares.axvline(0, color="0.3", linewidth=0.7)
    shares.set_xlabel("share of the fusion's output, %", fontsize=_LETTERS + 1)
    handles = [
        Line2D(
            [],
            [],
            color="black",
            marker="|",
            markersize=9,
            markeredgewidth=1.4,
            linestyle="none",
            label="of what differs between pictures",
        )
    ]
    shares.legend(handles=handles, fontsize=_LETTERS, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    if known := found[0].silenced:
        low, high = wilson(known.intact, known.images)
        accuracy.axvspan(100 * low, 100 * high, color="0.85", linewidth=0, zorder=0)
        label = f"intact, {100 * known.intact / known.images:.1f} %, with its interval"
        accuracy.axvline(100 * known.intact / known.images, color="0.3", linewidth=0.8, linestyle=(0, (4, 2)), label=label)
        accuracy.legend(fontsize=_LETTERS, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    accuracy.set_xlabel("top-1 without the branch, %, 95 % interval", fontsize=_LETTERS + 1)
    for axes in (shares, accuracy):
        _plain(axes)
    figure.suptitle(title, fontsize=_LETTERS + 1)
    return figure


def _rows(found: Sequence[Contribution]) -> list[float]:
    """Return where each branch's row is: stages stand apart."""
    first = found[0].stage
    return [index + 0.5 * (each.stage - first) for index, each in enumerate(found)]


def _plain(axes: Axes) -> None:
    axes.tick_params(labelsize=_LETTERS)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(visible=True, axis="x", color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)


# ── similarity ──────────────────────────────────────────────────────────────────────────────────────────────────────


def similarity_figure(found: Similarity, title: str) -> Figure:
    """Return the matrix, with its numbers where there is room, and lines between stages."""
    count = len(found.names)
    figure = Figure(figsize=(0.36 * count + 2.0, 0.36 * count + 1.3), layout="constrained")
    axes = figure.add_subplot()
    values = np.array([[np.nan if value is None else value for value in line] for line in found.matrix])
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), [short_name(name) for name in found.names], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), found.names)
    axes.tick_params(labelsize=_LETTERS, length=0)
    axes.spines[:].set_visible(False)
    if count <= _NUMBERED:
        for (down, across), value in np.ndenumerate(values):
            text = "–" if np.isnan(value) else f"{value:.2f}"
            axes.text(
                across, down, text, ha="center", va="center", fontsize=_LETTERS - 2, color="white" if value > _DARK else "black"
            )
    for place in range(1, count):
        if found.names[place].split()[1] != found.names[place - 1].split()[1]:
            axes.axhline(place - 0.5, color="white", linewidth=2)
            axes.axvline(place - 0.5, color="white", linewidth=2)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02)
    bar.set_label("linear CKA", fontsize=_LETTERS)
    bar.ax.tick_params(labelsize=_LETTERS)
    bar.outline.set_visible(False)
    figure.suptitle(title, fontsize=_LETTERS + 1)
    return figure


# ── attention ───────────────────────────────────────────────────────────────────────────────────────────────────────


def attention_maps_figure(found: Sequence[Attended], picture: NDArray[np.float64], title: str) -> Figure:
    """Return a column a map: what the network's own attention weighs, and what full attention would, for one token."""
    figure = Figure(figsize=(1.9 * len(found) + 0.9, 4.3), layout="constrained")
    panels = figure.subplots(2, len(found), squeeze=False)
    many = len({each.path for each in found}) > 1
    image: Any = None
    for column, each in enumerate(found):
        for axes, weights in zip(panels[:, column], (each.implied, each.full), strict=True):
            _picture(axes, picture, _PALER)
            image = _weights(axes, weights, each)
        name = f"path {each.path}" if many else f"head {each.head}"
        panels[0, column].set_title(name, fontsize=_LETTERS + 1)
    for axes, text in zip(panels[:, 0], ("implied by the network", "full softmax attention"), strict=True):
        axes.set_ylabel(text, fontsize=_LETTERS + 1)
    bar = figure.colorbar(image, ax=panels, shrink=0.6, pad=0.02, ticks=[-1, 0, 1])
    bar.set_label("weight ÷ largest of the map", fontsize=_LETTERS)
    bar.ax.tick_params(labelsize=_LETTERS)
    figure.suptitle(title, fontsize=_LETTERS + 1)
    return figure


def _weights(axes: Axes, weights: NDArray[np.float64], found: Attended) -> Any:  # noqa: ANN401 - what a colour bar is for
    """Draw a token's weights over its picture, red above 0 and blue below, and a frame around the token.

    A token has the pixels that are nearer to it than to others.
    """
    largest = float(np.abs(weights).max()) or 1.0
    limits = (axes.get_xlim(), axes.get_ylim()[::-1])
    across, down = (
        np.array([first, *(np.arange(1, count) - 0.5) * found.stride, last])
        for (first, last), count in zip(limits, reversed(weights.shape), strict=True)
    )
    mesh = axes.pcolormesh(across, down, weights / largest, cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.75, linewidth=0)
    mesh.set_rasterized(True)  # else the seams of its cells are seen
    column, row = found.token
    corner, end = (across[column], down[row]), (across[column + 1], down[row + 1])
    axes.add_patch(Rectangle(corner, end[0] - corner[0], end[1] - corner[1], fill=False, edgecolor="black", linewidth=1.4))
    axes.set_xlabel(f"sum {weights.sum():.2f}, largest {largest:.2g}".replace("-", "−"), fontsize=_LETTERS - 1)
    return mesh

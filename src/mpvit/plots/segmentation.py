"""What a segmenter sees, in colours over each picture, with the names of the classes."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from mpvit.prediction.results import Segmentation

MOST = 24
"""Pictures in one figure."""

_FIRST = "#DDDDDD"
_HUES = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
"""Paul Tol's muted scheme (SRON/EPS/TN/09-002, 2021, figure 4), told apart by people with any colour vision; the pale grey
of it is the first class's, which often is the ground."""

_HATCHES = ("", "////", "....", "xxxx", "----")
"""What the hues are drawn with when they begin anew, from the tenth class behind the first on."""

_OPACITY, _PALE = 0.65, 0.5
"""Of the colours, and how much of a picture's contrast stays below them: else black ink would hide which colour it is."""

_LETTERS = 8
_LARGEST_SIDE = 600
"""Pixels of a panel's side: more are not seen."""

_NAMED = 0.004
"""The share of a picture from which on a class is named on it."""


def style(index: int) -> tuple[str, str]:
    """Return the colour and the hatch of a class."""
    if index == 0:
        return _FIRST, ""
    turn, hue = divmod(index - 1, len(_HUES))
    return _HUES[hue], _HATCHES[turn % len(_HATCHES)]


def overlay_figure(found: Sequence[Segmentation], pictures: Sequence[NDArray[np.uint8]]) -> Figure:
    """Return each of ``pictures``, (h, w, 3), beside itself with the classes that were ``found`` in it."""
    columns = min(max(ceil((len(found) / 2) ** 0.5), 1), 4)  # pairs beside each other
    rows = ceil(len(found) / columns)
    seen = {each.index: each.name for one in found for each in one.classes}
    legend = [_patch(index, seen[index]) for index in sorted(seen)]
    beside = min(max(2 * columns, 3), len(legend))
    width, height = 1.9 * 2 * columns, 2.1 * rows + 0.22 * ceil(len(legend) / beside) + 0.5
    figure = Figure(figsize=(max(width, 4.2), height), layout="constrained")
    panels = figure.subplots(rows, 2 * columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for place, (one, picture) in enumerate(zip(found, pictures, strict=True)):
        plain, coloured = panels[2 * place], panels[2 * place + 1]
        step = max(1, ceil(max(picture.shape[:2]) / _LARGEST_SIDE))
        plain.imshow(picture[::step, ::step], interpolation="nearest")
        plain.set_title(_short(one.image), fontsize=_LETTERS, loc="left", pad=3)
        if one.indices is not None:
            _draw(coloured, one.indices[::step, ::step], picture[::step, ::step], seen)
    figure.legend(handles=legend, loc="outside lower center", ncols=beside, fontsize=_LETTERS, frameon=False)
    return figure


def _patch(index: int, name: str) -> Patch:
    color, hatch = style(index)
    return Patch(facecolor=color, edgecolor="black", linewidth=0.5, hatch=hatch, label=name)


def _draw(axes: Axes, indices: NDArray[np.uint8], picture: NDArray[np.uint8], names: dict[int, str]) -> None:
    """Draw the classes of a picture: its greys below their colours, hatches, and a name in the middle of what is large."""
    grey = 1 - _PALE * (1 - picture.mean(2, keepdims=True) / 255)
    colors = np.zeros((256, 3))
    for index in names:
        colors[index] = to_rgb(style(index)[0])
    axes.imshow((1 - _OPACITY) * grey + _OPACITY * colors[indices], interpolation="nearest")
    for index, name in names.items():
        own = indices == index
        if (hatch := style(index)[1]) and own.any() and min(own.shape) > 1:
            axes.contourf(own.astype(float), levels=[0.5, 1.5], colors="none", hatches=[hatch])
        if index and own.mean() >= _NAMED:
            down, across = _middle(own)
            text = axes.text(across, down, name, ha="center", va="center", fontsize=_LETTERS - 1, clip_on=True)
            text.set_path_effects([withStroke(linewidth=1.8, foreground="white")])


def _middle(own: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel of a class that is nearest to the middle of them all."""
    down, across = np.nonzero(own)
    nearest = int(np.argmin((down - down.mean()) ** 2 + (across - across.mean()) ** 2))
    return int(down[nearest]), int(across[nearest])


def _short(name: str) -> str:
    return name.rpartition("/")[2][-_LONGEST:]


_LONGEST = 24
"""Letters of a file's name above its picture."""

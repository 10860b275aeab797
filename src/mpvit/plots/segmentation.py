"""The classes of pixels that a segmenter predicts, as colours over each image, with their names."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from mpvit.plots import LEGEND, SMALL
from mpvit.prediction.results import Segmentation

MOST = 24
"""Largest number of images in one figure."""

_FIRST = "#DDDDDD"
_HUES = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
"""Paul Tol's muted scheme (SRON/EPS/TN/09-002, 2021, figure 4), distinguishable with any colour vision; its pale grey is for
the first class, which is often the background."""

_HATCHES = ("", "////", "....", "xxxx", "----")
"""Hatches that distinguish classes of the same hue, from the tenth class after the first."""

_OPACITY, _PALE = 0.65, 0.5
"""Opacity of the colours, and contrast of the image below them: with more contrast, black parts would hide the colours."""

_LARGEST_SIDE = 600
"""Side of a panel in pixels; more cannot be seen."""

_NAMED = 0.004
"""Share of an image from which the name of a class is written on it."""

_LONGEST = 24
"""Longest file name above an image, in letters."""


def style(index: int) -> tuple[str, str]:
    """Return the colour and the hatch of a class."""
    if index == 0:
        return _FIRST, ""
    turn, hue = divmod(index - 1, len(_HUES))
    return _HUES[hue], _HATCHES[turn % len(_HATCHES)]


def overlay_figure(found: Sequence[Segmentation], images: Sequence[NDArray[np.uint8]]) -> Figure:
    """Return each of ``images``, (h, w, 3), next to itself with the predicted classes."""
    columns = min(max(ceil((len(found) / 2) ** 0.5), 1), 4)  # pairs of panels in a row
    rows = ceil(len(found) / columns)
    names = {each.index: each.name for one in found for each in one.classes}
    legend = [_patch(index, names[index]) for index in sorted(names)]
    legend_columns = min(max(2 * columns, 3), len(legend))
    width, height = 1.9 * 2 * columns, 2.1 * rows + 0.22 * ceil(len(legend) / legend_columns) + 0.5
    figure = Figure(figsize=(max(width, 4.2), height), layout="constrained")
    panels = figure.subplots(rows, 2 * columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for one, image, plain, coloured in zip(found, images, panels[::2], panels[1::2], strict=False):
        step = max(1, ceil(max(image.shape[:2]) / _LARGEST_SIDE))
        plain.imshow(image[::step, ::step], interpolation="nearest")
        plain.set_title(one.image.rpartition("/")[2][-_LONGEST:], fontsize=SMALL, loc="left", pad=3)
        if one.indices is not None:
            _draw(coloured, one.indices[::step, ::step], image[::step, ::step], names)
    figure.legend(handles=legend, loc="outside lower center", ncols=legend_columns, **LEGEND)
    return figure


def _patch(index: int, name: str) -> Patch:
    color, hatch = style(index)
    return Patch(facecolor=color, edgecolor="black", linewidth=0.5, hatch=hatch, label=name)


def _draw(axes: Axes, indices: NDArray[np.uint8], image: NDArray[np.uint8], names: dict[int, str]) -> None:
    """Draw the classes of an image: their colours and hatches over its greys, and the names of large ones."""
    grey = 1 - _PALE * (1 - image.mean(2, keepdims=True) / 255)
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
            text = axes.text(across, down, name, ha="center", va="center", fontsize=SMALL - 1, clip_on=True)
            text.set_path_effects([withStroke(linewidth=1.8, foreground="white")])


def _middle(own: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel of a class, (row, column), that is nearest to the mean position of its pixels."""
    down, across = np.nonzero(own)
    nearest = int(np.argmin((down - down.mean()) ** 2 + (across - across.mean()) ** 2))
    return int(down[nearest]), int(across[nearest])

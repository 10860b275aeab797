"""Results as figures, one file per study, and the style that they share: readable in print and by any colour vision."""

import io
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from mpvit.files import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, distinguishable with any colour vision."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

DPI = 200

SMALL, MEDIUM = 8, 9
"""Font sizes in points: of ticks, legends and numbers; of axis labels and titles."""

LEGEND: dict[str, Any] = {"fontsize": SMALL, "frameon": False}
DASHED = (0, (4, 2))

_WIDE = 50
"""Ratio of an axis's largest and smallest value from which ticks at powers of ten are enough."""


def color(number: int) -> str:
    """Return the colour of series ``number``, from 0."""
    return COLORS[number % len(COLORS)]


def marker(number: int) -> str:
    """Return the marker of series ``number``, from 0."""
    return MARKERS[number % len(MARKERS)]


def style_axes(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Give axes with two scales their labels, a pale grid behind the data, and no frame."""
    axes.set_xlabel(xlabel, fontsize=MEDIUM)
    axes.set_ylabel(ylabel, fontsize=MEDIUM)
    axes.tick_params(which="both", labelsize=SMALL)
    axes.grid(visible=True, which="major", color="0.93", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def style_bars(axes: Axes, xlabel: str) -> None:
    """Give axes with one named bar per row their label, and no frame."""
    axes.set_xlabel(xlabel, fontsize=MEDIUM)
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def plain_log_ticks(axes: Axes) -> None:
    """Write the ticks of two log scales as plain numbers, at 1, 2 and 5 where powers of ten are too few."""
    for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > _WIDE else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` whole or not at all, in the format of the file's suffix (svg, png, pdf); raise ``MpvitError``.

    The same figure gives the same file: an SVG file has no date, and its elements have no random names.
    """
    data = io.BytesIO()
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    with rc_context({"svg.hashsalt": "mpvit"}):
        figure.savefig(data, format=path.suffix.lower()[1:], dpi=DPI, bbox_inches="tight", metadata=metadata)
    write_atomically(path, data.getvalue())

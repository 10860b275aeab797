"""Results as figures, one file each: log-log where costs grow, labels beside the lines, legible in print."""

import io
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from mpvit.files import write_atomically

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, told apart by people with any colour vision."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

DPI = 200


def save_figure(figure: Figure, path: Path) -> None:
    """Write ``figure`` whole or not at all, in the format of the file's suffix (svg, png, pdf); raise ``MpvitError``."""
    data = io.BytesIO()
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None  # the same figure is the same file
    with rc_context({"svg.hashsalt": "mpvit"}):  # likewise: else the names of its parts are drawn at random
        figure.savefig(data, format=path.suffix.lower()[1:], dpi=DPI, bbox_inches="tight", metadata=metadata)
    write_atomically(path, data.getvalue())

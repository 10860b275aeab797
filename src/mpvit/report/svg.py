"""Figures as SVG: as a reproducible file, and inline, in the colours of the page."""

import io
import re
from html import escape

from matplotlib.figure import Figure

from mpvit.plots import COLORS

_HEX = re.compile(r"#[0-9a-f]{6}\b")
_HUES = {color.lower(): f"var(--hue-{number})" for number, color in enumerate(COLORS)}
_HEADER = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)
_FRAME = re.compile(r'<svg [^>]*?viewBox="(0 0 ([\d.]+) ([\d.]+))"[^>]*>')
_NAMES = re.compile(r'( id="|url\(#|xlink:href="#)')
_POINTS_TO_PIXELS = 4 / 3


def draw_svg(figure: "Figure", name: str) -> str:
    """Return ``figure`` as the text of an SVG file that keeps words as text; the same figure gives the same file."""
    import matplotlib as mpl

    data = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(data, format="svg", bbox_inches="tight", metadata={"Date": None})
    return _METADATA.sub("", data.getvalue().decode())


def inline(svg: str, name: str, label: str) -> str:
    """Return a drawn file as an element of a page: named ``label``, with ids of its own, in the colours of the page.

    Greys become mixtures of the page's text and background colours, and hues those of the page, so that the figure is readable
    in both colour schemes.
    """
    text = _NAMES.sub(rf"\g<1>{name}-", _HEADER.sub("", svg)).replace("xlink:href", "href")

    def frame(found: re.Match[str]) -> str:
        box, width, _ = found.groups()
        pixels = round(float(width) * _POINTS_TO_PIXELS)
        return f'<svg viewBox="{box}" role="img" aria-label="{escape(label)}" style="width: {pixels}px">'

    text = _STYLE.sub("", _FRAME.sub(frame, text, count=1))  # the page has this rule already
    return _HEX.sub(_themed, text).strip()


def _themed(found: re.Match[str]) -> str:
    color = found.group()
    if color in _HUES:
        return _HUES[color]
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    if not red == green == blue:
        return color
    return f"color-mix(in srgb, var(--ink) {100 - 100 * red / 255:.0f}%, var(--paper))"

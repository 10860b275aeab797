"""What each view of ``mpvit paths`` says of a network, and draws: for the command and for the report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from mpvit.extras import require
from mpvit.tables.paths import Looked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import Tensor

    from mpvit.paths.pictures import Pictures
    from mpvit.prediction.inference import InferenceConfig, Network
    from mpvit.report.results import Sight
    from mpvit.tables import Document

    Watch = Callable[[Iterable[Tensor], str, int], Iterable[Tensor]]
    View = tuple[Document, Callable[[], Figure]]

MOST = {"fields": 32, "contribution": None, "similarity": 1024, "attention": 8}
"""Views of a network, and the pictures that each looks at by itself; None is all."""

BATCH = 64

_CAPTIONS = {
    "fields": "Half of the squared gradients of each path's centre token, outlined over a picture, and what it can see.",
    "contribution": "What each branch brings to its stage's fusion, and the accuracy without it.",
    "similarity": "Linear CKA between branches and stages: 1 for what is the same but for turns and scale.",
    "attention": "To which tokens the centre token attends, in the map that factorized attention implies and in full one.",
}


class Drawn(NamedTuple):
    """Which maps a figure of attention shows; None for the last stage, one head of each path, and the centre."""

    stage: int | None = None
    path: int | None = None
    head: int | None = None
    point: tuple[int, int] | None = None


class Look(NamedTuple):
    """A network and the pictures that it is shown, so many at once; ``watch`` sees how far that is."""

    network: Network
    pictures: Pictures
    how: InferenceConfig
    watch: Watch

    @property
    def looked(self) -> Looked:
        """What is said of both."""
        return Looked(self.network.about, self.pictures.name, self.pictures.part.pictures, self.how.size)

    def batches(self) -> Iterator[Tensor]:
        """Yield the pictures."""
        total = -(-self.pictures.part.pictures // self.how.batch)
        yield from self.watch(self.pictures.batches(self.how.batch), "Looking", total)


def see(view: str, look: Look, drawn: Drawn) -> View:
    """Return a view's answer, and what draws it."""
    if view == "fields":
        return _fields(look)
    if view == "contribution":
        return _contribution(look)
    return _similarity(look) if view == "similarity" else _attention(look, drawn)


def sights(weights: Path, data: str | None, watch: Watch) -> tuple[Sight, ...]:
    """Return every view of the network in ``weights``, on pictures that ``data`` holds out, or its own.

    Errors are those of ``load_network`` and ``find_pictures``.
    """
    from mpvit.paths.pictures import find_pictures
    from mpvit.prediction.inference import InferenceConfig, load_network
    from mpvit.report.results import Sight, Told
    from mpvit.report.svg import draw_svg

    network = load_network(weights)
    how = InferenceConfig.of(network.preprocessing, batch=BATCH)
    found = []
    for view, most in MOST.items():
        document, draw = see(view, Look(network, find_pictures(network, how, None, data, most), how, watch), Drawn())
        tables = tuple(Told(title=table.title, columns=table.columns, rows=table.rows) for table in document.tables)  # type: ignore[arg-type] # no cell of theirs is drawn
        found.append(
            Sight(
                view=view,
                weights=str(weights),
                data=data,
                caption=_CAPTIONS[view],
                results=document.results,
                tables=tables,
                notes=document.notes,
                svg=draw_svg(draw(), view),
            )
        )
    return tuple(found)


def _fields(look: Look) -> View:
    from mpvit.paths.effective import effective_fields
    from mpvit.plots.paths import fields_figure
    from mpvit.tables.paths import fields_document

    found = effective_fields(look.network.model, look.batches())
    document = fields_document(found, look.looked)
    return document, partial(fields_figure, found, look.pictures.shown(0), look.looked.caption)


def _contribution(look: Look) -> View:
    require("accelerate", "kornia", "torchmetrics")
    from mpvit.paths.contribution import contributions, silence
    from mpvit.plots.paths import contribution_figure
    from mpvit.tables.paths import contribution_document

    targets, model = look.pictures.targets(look.network), look.network.model
    found = silence(model, *contributions(model, look.batches()), look.batches(), targets)
    return contribution_document(found, look.looked), partial(contribution_figure, found, look.looked.caption)


def _similarity(look: Look) -> View:
    from mpvit.paths.similarity import similarities
    from mpvit.plots.paths import similarity_figure
    from mpvit.tables.paths import similarity_document

    found = similarities(look.network.model, look.batches())
    return similarity_document(found, look.looked), partial(similarity_figure, found, look.looked.caption)


def _attention(look: Look, drawn: Drawn) -> View:
    from mpvit.paths.implied import attended, head_maps
    from mpvit.plots.paths import attention_maps_figure
    from mpvit.tables.paths import attention_maps_document

    model = look.network.model
    panels = attended(model, next(look.pictures.batches(1)), drawn.point, stage=drawn.stage, path=drawn.path, head=drawn.head)
    document = attention_maps_document(*head_maps(model, look.batches()), look.looked)
    which = f"path {drawn.path}" if drawn.path else f"head {drawn.head or 1}"
    title = f"{look.looked.network} on {look.pictures.part.name(0)}\nstage {panels[0].stage}, {which}"
    return document, partial(attention_maps_figure, panels, look.pictures.shown(0), title)

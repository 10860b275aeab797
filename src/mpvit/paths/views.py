"""The views of ``mpvit paths``: what the paths of a network do on some images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.imports import require
from mpvit.progress import Track

if TYPE_CHECKING:
    from torch import Tensor

    from mpvit.model.network import MPViT
    from mpvit.paths.images import ViewImages
    from mpvit.paths.results import HeadMap, TokenAttention
    from mpvit.prediction.loading import Predictor
    from mpvit.prediction.results import NetworkInfo

IMAGES = {"fields": 32, "contribution": None, "similarity": 1024, "attention": 8}
"""Names of the views, each with its default number of images; None for all."""

BATCH = 64


class MapChoice(NamedTuple):
    """The attention maps that a figure shows.

    Attributes:
        stage: number of the stage in the paper; None for the last stage.
        path: path whose heads are shown; None for one head of each path.
        head: None for the first head or, with a path, for all.
        point: (x, y) of the pixel whose token attends; None for the centre.
    """

    stage: int | None = None
    path: int | None = None
    head: int | None = None
    point: tuple[int, int] | None = None


class AttentionMaps(NamedTuple):
    """Statistics of the maps of all heads, the stages with too many tokens for them, and the maps that a figure shows."""

    heads: list[HeadMap]
    left_out: list[int]
    shown: list[TokenAttention]


class View(NamedTuple):
    """One view of a network on some images.

    ``results`` is a list of ``EffectiveField`` or ``Contribution``, a ``Similarity``, or ``AttentionMaps``.
    """

    name: str
    network: NetworkInfo
    images: ViewImages
    results: Any


def path_view(name: str, network: Predictor[MPViT], images: ViewImages, track: Track, choice: MapChoice | None = None) -> View:
    """Return the view ``name`` of ``network`` on ``images``; ``track`` shows the progress over batches.

    Raises ``UsageError`` for images without classes if they are needed, and for a ``choice`` that the network does not have.
    """
    model, batch = network.model, images.config.batch

    def batches() -> Iterator[Tensor]:
        yield from track(images.batches(batch), "Images", -(-len(images.split) // batch))

    results: Any
    if name == "fields":
        from mpvit.paths.effective import effective_fields

        results = effective_fields(model, batches())
    elif name == "contribution":
        require("accelerate", "kornia", "torchmetrics")
        from mpvit.paths.contribution import ablate_branches, contributions

        targets = images.targets(network)
        results = ablate_branches(model, *contributions(model, batches()), batches(), targets)
    elif name == "similarity":
        from mpvit.paths.similarity import similarities

        results = similarities(model, batches())
    else:
        from mpvit.paths.attention_maps import head_maps, token_attention

        stage, path, head, point = choice or MapChoice()
        shown = token_attention(model, next(images.batches(1)), point, stage=stage, path=path, head=head)
        results = AttentionMaps(*head_maps(model, batches()), shown)
    return View(name, network.about, images, results)

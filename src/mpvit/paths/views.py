"""The views of ``mpvit paths``: what the paths of a network do on some images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.extras import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from mpvit.model.network import MPViT
    from mpvit.paths.pictures import Pictures
    from mpvit.paths.results import Attended, HeadMap
    from mpvit.prediction.inference import InferenceConfig
    from mpvit.prediction.loading import Predictor
    from mpvit.prediction.results import NetworkInfo

    Track = Callable[[Iterable[Tensor], str, int], Iterable[Tensor]]

IMAGES = {"fields": 32, "contribution": None, "similarity": 1024, "attention": 8}
"""Names of the views, each with the number of images that it uses by default; None for all."""

BATCH = 64


class MapChoice(NamedTuple):
    """The attention maps that a figure shows.

    Attributes:
        stage: the paper's number; None for the last stage.
        path: path whose heads are shown; None for one head of each path.
        head: None for the first head or, with a path, for all.
        point: (x, y) of the pixel whose token attends; None for the centre.
    """

    stage: int | None = None
    path: int | None = None
    head: int | None = None
    point: tuple[int, int] | None = None


class ViewSource(NamedTuple):
    """The network and the images that a view is about: their name and number, and the side of the input in pixels."""

    network: NetworkInfo
    images: str
    number: int
    size: int


class AttentionMaps(NamedTuple):
    """Statistics of the maps of all heads, the stages with too many tokens for that, and the maps that a figure shows."""

    heads: list[HeadMap]
    left_out: list[int]
    shown: list[Attended]


class View(NamedTuple):
    """What one view found.

    Attributes:
        name: one of ``IMAGES``.
        source: the network and the images.
        results: for ``fields`` a list of ``Effective``, for ``contribution`` one of ``Contribution``, for ``similarity`` a
            ``Similarity``, for ``attention`` ``AttentionMaps``.
        image: the first image, (side, side, 3) in [0, 1]; ``image_name`` is its name.
    """

    name: str
    source: ViewSource
    results: Any
    image: NDArray[np.float64]
    image_name: str


def path_view(
    name: str, network: Predictor[MPViT], images: Pictures, how: InferenceConfig, track: Track, choice: MapChoice | None = None
) -> View:
    """Return the view ``name`` of ``network`` on ``images``; ``track`` shows the progress over batches.

    Raises ``UsageError`` for images without classes where they are needed, and for a ``choice`` that the network lacks.
    """
    model, total = network.model, -(-len(images.part) // how.batch)

    def batches() -> Iterator[Tensor]:
        yield from track(images.batches(how.batch), "Images", total)

    results: Any
    if name == "fields":
        from mpvit.paths.effective import effective_fields

        results = effective_fields(model, batches())
    elif name == "contribution":
        require("accelerate", "kornia", "torchmetrics")
        from mpvit.paths.contribution import contributions, silence

        targets = images.targets(network)
        results = silence(model, *contributions(model, batches()), batches(), targets)
    elif name == "similarity":
        from mpvit.paths.similarity import similarities

        results = similarities(model, batches())
    else:
        from mpvit.paths.implied import attended, head_maps

        stage, path, head, point = choice or MapChoice()
        shown = attended(model, next(images.batches(1)), point, stage=stage, path=path, head=head)
        results = AttentionMaps(*head_maps(model, batches()), shown)
    source = ViewSource(network.about, images.name, len(images.part), how.size)
    return View(name, source, results, images.shown(0), images.part.name(0))

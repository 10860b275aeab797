"""The best classes of images, and the largest classes of segmented images."""

from collections.abc import Sequence
from typing import Any

from mpvit.prediction.results import TORCH, UNKNOWN, ClassScore, ClassShare, NetworkInfo, Prediction, Segmentation
from mpvit.tables import Document, Field, Share, build
from mpvit.tables.training import trained_text

ASSUMED = "The file does not name its classes and preprocessing: those of ImageNet and of the paper are assumed."

UNTRAINED = "The network is untrained: its classes mean nothing."

_Row = tuple[Prediction | Segmentation, int, ClassScore | ClassShare | None]
"""An image, a rank from 1, and the class of that rank; no class if the image cannot be read."""

_IMAGE: Field[_Row] = Field("Image", lambda row: row[0].image if row[1] == 1 else "", numeric=False)
_RANK: Field[_Row] = Field("Rank", lambda row: row[1] if row[2] else None)
_CLASS: tuple[Field[_Row], ...] = (
    Field("Index", lambda row: row[2].index if row[2] else None),
    Field("Class", lambda row: row[2].name if row[2] else row[0].error, numeric=False),
)
_PROBABILITY: Field[_Row] = Field("Probability", lambda row: row[2].probability if isinstance(row[2], ClassScore) else None)
_PIXELS: tuple[Field[_Row], ...] = (
    Field("Pixels", lambda row: row[2].pixels if isinstance(row[2], ClassShare) else None),
    Field("% of image", lambda row: Share(row[2].share) if isinstance(row[2], ClassShare) else None),
)


def prediction_document(found: Sequence[Prediction | Segmentation], network: NetworkInfo, top: int | None = None) -> Document:
    """Return the ``top`` classes of each image, None for all; an image that cannot be read has one row with its error."""
    rows: list[_Row] = [(each, rank, one) for each in found for rank, one in enumerate(each.classes[:top] or (None,), 1)]
    title = f"{network.task} on {network.model}, " if network.task else f"{network.model}, "
    title += f"weights {network.weights}" if network.trained else "random weights"
    if known := network.training:
        title += f", trained on {known.data}: {trained_text(known)}"
    title += "" if network.engine == TORCH else f", run by {network.engine}"
    fields = (_IMAGE, *_CLASS, *_PIXELS) if network.task else (_IMAGE, _RANK, *_CLASS, _PROBABILITY)
    results, table = tuple(_result(row, network) for row in rows), build(title, fields, rows)
    unknown = (ASSUMED,) if network.model == UNKNOWN else ()
    notes = unknown if network.trained else (UNTRAINED,)
    return Document("predict", results, (table,), notes, network.device, network.threads, network.dtype)


def _result(row: _Row, network: NetworkInfo) -> dict[str, Any]:
    image, rank, one = row
    return {
        "image": image.image,
        "model": network.model,
        **({"task": network.task} if network.task else {}),
        "weights": network.weights,
        **({} if network.task else {"engine": network.engine, "trained": network.trained}),
        "error": image.error or None,
        "rank": rank if one else None,
        "class_index": one.index if one else None,
        "class_name": one.name if one else None,
        **{name: getattr(one, name, None) for name in (("pixels", "share") if network.task else ("probability",))},
    }

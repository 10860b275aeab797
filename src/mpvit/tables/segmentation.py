"""Segmented images: the classes of the pixels of each image."""

from collections.abc import Sequence
from typing import Any

from mpvit.prediction.results import ClassShare, NetworkInfo, Segmentation
from mpvit.tables import Document, Field, Share, build
from mpvit.tables.training import trained_text

_Row = tuple[Segmentation, int, ClassShare | None]
"""A segmented image, a rank from 1, and the class of that rank; no class where the image cannot be read."""

_FIELDS: tuple[Field[_Row], ...] = (
    Field("Image", lambda row: row[0].image if row[1] == 1 else "", numeric=False),
    Field("Index", lambda row: row[2].index if row[2] else None),
    Field("Class", lambda row: row[2].name if row[2] else row[0].error, numeric=False),
    Field("Pixels", lambda row: row[2].pixels if row[2] else None),
    Field("% of image", lambda row: Share(row[2].share) if row[2] else None),
)


def segmentation_document(found: Sequence[Segmentation], network: NetworkInfo, top: int) -> Document:
    """Return the ``top`` largest classes of each image; an image that cannot be read has one row with its error."""
    rows: list[_Row] = [(each, rank, one) for each in found for rank, one in enumerate(each.classes[:top] or (None,), 1)]
    title = f"{network.task} on {network.model}, weights {network.weights}"
    if known := network.training:
        title += f", trained on {known.data}: {trained_text(known)}"
    results = tuple(_result(row, network) for row in rows)
    where = (network.device, network.threads, network.dtype)
    return Document("predict", results, (build(title, _FIELDS, rows),), (), *where)


def _result(row: _Row, network: NetworkInfo) -> dict[str, Any]:
    found, rank, one = row
    return {
        "image": found.image,
        "model": network.model,
        "task": network.task,
        "weights": network.weights,
        "error": found.error or None,
        "rank": rank if one else None,
        "class_index": one.index if one else None,
        "class_name": one.name if one else None,
        "pixels": one.pixels if one else None,
        "share": one.share if one else None,
    }

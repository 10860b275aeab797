"""The best classes of images."""

from collections.abc import Sequence
from typing import Any

from mpvit.prediction.results import TORCH, UNKNOWN, ClassScore, NetworkInfo, Prediction
from mpvit.tables import Document, Field, build
from mpvit.tables.training import trained_text

ASSUMED = "The file does not name its classes and preprocessing: those of ImageNet and of the paper are assumed."

UNTRAINED = "The network is untrained (--random-init): its classes mean nothing."

_Row = tuple[Prediction, int, ClassScore | None]
"""A prediction, a rank from 1, and the class of that rank; no class where the image cannot be read."""

_FIELDS: tuple[Field[_Row], ...] = (
    Field("Image", lambda row: row[0].image if row[1] == 1 else "", numeric=False),
    Field("Rank", lambda row: row[1] if row[2] else None),
    Field("Index", lambda row: row[2].index if row[2] else None),
    Field("Class", lambda row: row[2].name if row[2] else row[0].error, numeric=False),
    Field("Probability", lambda row: row[2].probability if row[2] else None),
)


def prediction_document(predictions: Sequence[Prediction], network: NetworkInfo) -> Document:
    """Return the best classes of each image; an image that cannot be read has one row with its error."""
    rows: list[_Row] = [(each, rank, score) for each in predictions for rank, score in enumerate(each.classes or (None,), 1)]
    weights = f"weights {network.weights}" if network.trained else "random weights"
    if known := network.training:
        weights += f", trained on {known.data}: {trained_text(known)}"
    engine = "" if network.engine == TORCH else f", run by {network.engine}"
    table = build(f"{network.model}, {weights}{engine}", _FIELDS, rows)
    results = tuple(_result(row, network) for row in rows)
    return Document("predict", results, (table,), _notes(network), network.device, network.threads, network.dtype)


def _notes(network: NetworkInfo) -> tuple[str, ...]:
    if not network.trained:
        return (UNTRAINED,)
    return (ASSUMED,) if network.model == UNKNOWN else ()


def _result(row: _Row, network: NetworkInfo) -> dict[str, Any]:
    prediction, rank, score = row
    return {
        "image": prediction.image,
        "model": network.model,
        "weights": network.weights,
        "engine": network.engine,
        "trained": network.trained,
        "error": prediction.error or None,
        "rank": rank if score else None,
        "class_index": score.index if score else None,
        "class_name": score.name if score else None,
        "probability": score.probability if score else None,
    }

"""What pictures show: the best classes of each."""

from collections.abc import Sequence
from typing import Any

from mpvit.prediction.results import TORCH, UNKNOWN, Classifier, Prediction
from mpvit.tables import Cell, Column, Document, Table
from mpvit.tables.training import trained_text

ASSUMED = "The file says nothing of its classes and preprocessing: they are taken for those of ImageNet and of the paper."

UNTRAINED = "The network is untrained (--random-init): its classes mean nothing."


def prediction_document(predictions: Sequence[Prediction], network: Classifier) -> Document:
    """Return the best classes of each image; an image that could not be read has one row with its error."""
    columns = (Column("Image"), Column("Rank", numeric=True), Column("Index", numeric=True), Column("Class"))
    rows = [row for prediction in predictions for row in _prediction_cells(prediction)]
    weights = f"weights {network.weights}" if network.trained else "random weights"
    if known := network.training:
        weights += f", trained on {known.data}: {trained_text(known)}"
    where = "" if network.engine == TORCH else f", run by {network.engine}"
    table = Table(f"{network.model}, {weights}{where}", (*columns, Column("Probability", numeric=True)), tuple(rows))
    return Document(
        "predict",
        tuple(row for prediction in predictions for row in _prediction_rows(prediction, network)),
        (table,),
        _notes(network),
        network.device,
        network.threads,
        network.dtype,
    )


def _notes(network: Classifier) -> tuple[str, ...]:
    if not network.trained:
        return (UNTRAINED,)
    return (ASSUMED,) if network.model == UNKNOWN else ()


def _prediction_cells(prediction: Prediction) -> list[tuple[Cell, ...]]:
    """Return the rows that a person reads: the image is named on the first."""
    if prediction.error:
        return [(prediction.image, None, None, prediction.error, None)]
    return [
        (prediction.image if rank == 1 else "", rank, score.index, score.name, score.probability)
        for rank, score in enumerate(prediction.classes, 1)
    ]


def _prediction_rows(prediction: Prediction, network: Classifier) -> list[dict[str, Any]]:
    same = {
        "image": prediction.image,
        "model": network.model,
        "weights": network.weights,
        "engine": network.engine,
        "trained": network.trained,
        "error": prediction.error or None,
    }
    if prediction.error:
        return [same | dict.fromkeys(("rank", "class_index", "class_name", "probability"))]
    return [
        same | {"rank": rank, "class_index": s.index, "class_name": s.name, "probability": s.probability}
        for rank, s in enumerate(prediction.classes, 1)
    ]

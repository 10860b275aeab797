"""Exported files as networks that answer: of this project, which say what they are, or of somebody else."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mpvit.errors import UsageError
from mpvit.export import SUFFIXES
from mpvit.export.exported_network import ExportedNetwork, open_exported
from mpvit.images import PUBLISHED_PREPROCESSING
from mpvit.model.metadata import Preprocessing
from mpvit.prediction.classes import class_names
from mpvit.prediction.inference import Network, config_of, label, load_network, name_of
from mpvit.prediction.results import UNKNOWN, Classifier


@dataclass(frozen=True, slots=True)
class ExportedClassifier:
    """A network in its engine, the names of its classes by index, its preprocessing, and what it is."""

    model: ExportedNetwork
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    about: Classifier


def open_network(
    weights: Path, variant: str | None = None, classes: Path | None = None, device: torch.device | None = None
) -> Network | ExportedClassifier:
    """Return the network in a file: weights, in torch, or an exported network, told by its suffix, in its engine.

    Raises what ``load_network`` and ``load_exported`` raise.
    """
    if weights.suffix == ".bin" and weights.with_suffix(".xml").exists():
        raise UsageError(f"{str(weights)!r} holds the numbers of an exported network alone", hint="name the .xml beside it")
    if weights.suffix.lower() not in SUFFIXES:
        return load_network(weights, variant, classes, device)
    if device is not None and device.type != "cpu":
        raise UsageError(f"device {str(device)!r} with {str(weights)!r}: an exported network runs on the cpu")
    return load_exported(weights, variant, classes)


def load_exported(path: Path, variant: str | None = None, classes: Path | None = None) -> ExportedClassifier:
    """Return the network in an exported file; of one that says nothing of itself, classes and preprocessing are as published.

    Raises ``WeightsError`` for a file that is damaged or no network of images, ``UsageError`` where it contradicts ``variant``,
    ``MpvitError`` where its engine is not installed.
    """
    file = open_exported(path)
    takes, name = file.network.config, UNKNOWN
    if file.config is not None:
        name = name_of(config_of(file.config, variant, path))
        if file.config.num_classes == 0:
            raise UsageError("num_classes = 0: must be at least 1, this network only gives features")
    how = file.metadata.preprocessing or (
        PUBLISHED_PREPROCESSING if takes.height is None else replace(PUBLISHED_PREPROCESSING, size=takes.height)
    )
    about = Classifier(
        name, label(path), "cpu", torch.get_num_threads(), file.dtype, file.metadata.trained, engine=file.network.engine
    )
    return ExportedClassifier(file.network, class_names(takes.num_classes, file.metadata, classes, path), how, about)

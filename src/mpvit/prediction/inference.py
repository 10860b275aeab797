"""Classifying image files with a network that is ready for prediction."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpvit.errors import ImageError, MpvitError, UsageError, file_reason, first_line
from mpvit.export.exported_network import ExportedNetwork
from mpvit.images import preprocess, read_image
from mpvit.model.metadata import Preprocessing
from mpvit.model.network import MPViT
from mpvit.prediction.results import ClassScore, Prediction

_IMAGE_CHANNELS = 3
_MIN_CROP = 0.01
_MAX_SIZE = 4096
"""Largest side of an image, in pixels; a larger one fills the memory of most machines, and the system may kill the process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig(Preprocessing):
    """Preprocessing of the images, the number of classes in a prediction, and the images per batch.

    Raises ``UsageError`` naming the value.
    """

    top: int = 5
    batch: int = 8

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, *, size: int | None = None, crop: float | None = None, top: int = 5, batch: int = 8
    ) -> Self:
        """Return the preprocessing of a network with another ``size`` or ``crop``, if given."""
        given = {name: value for name, value in (("size", size), ("crop", crop)) if value is not None}
        return cls(**(asdict(preprocessing) | given), top=top, batch=batch)

    def __post_init__(self) -> None:
        for name, default in (("top", 5), ("size", 224), ("batch", 8)):
            if (value := getattr(self, name)) < 1:
                raise UsageError(f"{name} = {value}: must be at least 1", hint=f"the default is {default}")
        if self.size > _MAX_SIZE:
            raise UsageError(f"size = {self.size}: must be at most {_MAX_SIZE} pixels", hint="the default is 224")
        if not _MIN_CROP <= self.crop <= 1:
            raise UsageError(
                f"crop = {self.crop}: must be from {_MIN_CROP} to 1",
                hint="it is the share of the short side that the network takes; the default is 0.875",
            )


def require_readable(paths: Sequence[Path]) -> None:
    """Raise ``MpvitError`` that names the first of ``paths`` if none exists, so that no weights are loaded in vain."""
    reasons = []
    for path in paths:
        try:
            path.stat()
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reasons.append(file_reason(error))
        else:
            return
    others = f", nor can the other {len(paths) - 1}" if len(paths) > 1 else ""
    raise MpvitError(f"cannot predict {str(paths[0])!r}: {reasons[0]}{others}", hint="name images, or folders of images")


def predict(
    model: MPViT | ExportedNetwork, classes: Sequence[str], images: Sequence[Path], config: InferenceConfig | None = None
) -> Iterator[Prediction]:
    """Yield the prediction of ``model`` for each of ``images``, in their order, computed a batch at a time.

    An image that cannot be read yields a ``Prediction`` with its ``error``, and the next ones follow. A network with fewer
    classes than ``top`` gives all of them. Raises ``UsageError``, at once, for a network that cannot classify RGB images or is
    not in evaluation mode, and ``MpvitError`` if it fails on a batch.
    """
    if model.training:
        raise UsageError("the network is in training mode: must be in evaluation mode", hint="call model.eval() first")
    require_rgb(model)
    if model.config.num_classes == 0:
        raise UsageError("num_classes = 0: must be at least 1, this network only gives features")
    if len(classes) != model.config.num_classes:
        raise UsageError(f"{len(classes)} class names: the network has {model.config.num_classes} classes")
    config = config or InferenceConfig()
    if isinstance(model, ExportedNetwork):
        model.config.require((config.batch, _IMAGE_CHANNELS, config.size, config.size))
    return _predictions(model, classes, images, config)


def require_rgb(model: MPViT | ExportedNetwork) -> None:
    """Raise ``UsageError`` for a network that does not take RGB images."""
    if model.config.in_channels != _IMAGE_CHANNELS:
        raise UsageError(f"in_channels = {model.config.in_channels}: must be 3, images are RGB")


def _predictions(
    model: MPViT | ExportedNetwork, classes: Sequence[str], images: Sequence[Path], config: InferenceConfig
) -> Iterator[Prediction]:
    for first in range(0, len(images), config.batch):
        batch = images[first : first + config.batch]
        prepared = [_preprocessed(path, config) for path in batch]
        scores = iter(_probabilities(model, [image for image in prepared if not isinstance(image, str)]))
        for path, image in zip(batch, prepared, strict=True):
            name = printable(path)
            yield Prediction(name, error=image) if isinstance(image, str) else _best(name, next(scores), classes, config.top)


def printable(path: Path) -> str:
    """Return the name of a file with bytes that are not UTF-8 escaped."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _preprocessed(path: Path, config: InferenceConfig) -> NDArray[np.float32] | str:
    """Return the input of the network, float32 (3, size, size), or the reason why there is none."""
    try:
        return preprocess(read_image(path), config)
    except ImageError as error:
        return error.reason
    except MemoryError:
        return f"{config.size} × {config.size} pixels of it do not fit into memory"


@torch.inference_mode()
def _probabilities(model: MPViT | ExportedNetwork, images: Sequence[NDArray[np.float32]]) -> Tensor:
    """Map images (3, size, size) to the probabilities of their classes, float64 (images, classes) on the CPU."""
    if not images:
        return torch.empty(0)
    parameter = next(model.parameters(), torch.empty(0))  # an engine has none
    try:
        logits = model(torch.from_numpy(np.stack(images)).to(parameter))
    except (RuntimeError, MemoryError) as error:  # torch's own out-of-memory errors are RuntimeErrors
        raise network_failure(error, len(images), images[0].shape[-1]) from error
    return logits.cpu().double().softmax(-1)


def network_failure(error: Exception, images: int, pixels: int) -> MpvitError:
    """Return the error for a network that fails on ``images`` images of a width of ``pixels``."""
    hint = "a smaller size or batch needs less memory"
    return MpvitError(f"the network failed on {images} images of {pixels} pixels: {first_line(error)}", hint=hint)


def _best(image: str, probabilities: Tensor, classes: Sequence[str], top: int) -> Prediction:
    if not probabilities.isfinite().all():
        return Prediction(image, error="the prediction is not a finite number; the weights may be damaged")
    order: list[int] = probabilities.argsort(descending=True, stable=True)[:top].tolist()
    return Prediction(image, tuple(ClassScore(index, classes[index], probabilities[index].item()) for index in order))

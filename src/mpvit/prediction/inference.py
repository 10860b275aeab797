"""What networks see in image files: a network ready to answer, and its answers."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpvit.config import ModelConfig
from mpvit.dense.torch_network import empty_network
from mpvit.errors import ImageError, MpvitError, UsageError, WeightsError, file_reason, first_line
from mpvit.export import SUFFIXES
from mpvit.export.exported_network import ExportedNetwork
from mpvit.images import PUBLISHED_PREPROCESSING, preprocess, read_image
from mpvit.model.metadata import NO_METADATA, Metadata, Preprocessing
from mpvit.model.network import MPViT
from mpvit.model.weights import ConfiguredModule, load_into, read_weights, require_classifier
from mpvit.prediction.classes import class_names
from mpvit.prediction.results import Classifier, ClassScore, Prediction
from mpvit.variants import DEFAULT_VARIANT, NETWORKS, get_config

_SEED = 0
"""Of an untrained network, so that it answers the same each time."""

_IMAGE_CHANNELS = 3
_SMALLEST_CROP = 0.01
_LARGEST_SIZE = 4096
"""Beyond it one image fills the memory of most machines, and a system may end the program without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceConfig(Preprocessing):
    """How images are shown to a network: ``top`` classes kept, ``batch`` images at a time, beside their preprocessing.

    Raises ``UsageError`` naming the value.
    """

    top: int = 5
    batch: int = 8

    @classmethod
    def of(
        cls, preprocessing: Preprocessing, *, size: int | None = None, crop: float | None = None, top: int = 5, batch: int = 8
    ) -> Self:
        """Return a network's own preprocessing, but for what is asked for."""
        own = asdict(preprocessing)
        asked = {name: value for name, value in (("size", size), ("crop", crop)) if value is not None}
        return cls(**(own | asked), top=top, batch=batch)

    def __post_init__(self) -> None:
        """Check every field once."""
        for name, default in (("top", 5), ("size", 224), ("batch", 8)):
            if (value := getattr(self, name)) < 1:
                raise UsageError(f"{name} = {value}: must be at least 1", hint=f"the default is {default}")
        if self.size > _LARGEST_SIZE:
            raise UsageError(f"size = {self.size}: must be at most {_LARGEST_SIZE} pixels", hint="the default is 224")
        if not _SMALLEST_CROP <= self.crop <= 1:
            raise UsageError(
                f"crop = {self.crop}: must be from {_SMALLEST_CROP} to 1",
                hint="it is the share of the image's short side that the network sees; the default is 0.875",
            )


@dataclass(frozen=True, slots=True)
class Network:
    """A network in evaluation mode on its device, the names of its classes by index, its preprocessing, and what it is."""

    model: MPViT
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    about: Classifier

    @property
    def metadata(self) -> Metadata:
        """What goes along where the network is written anew."""
        return Metadata(self.classes, self.preprocessing, self.about.training)


def load_network(
    weights: Path, variant: str | None = None, classes: Path | None = None, device: torch.device | None = None
) -> Network:
    """Return the network whose weights are in the file ``weights``.

    A safetensors file of this project says which network it is and may name its classes; for any other file it is the
    published ``variant`` (default xsmall). ``classes`` is a text file of names that goes before those.
    Raises ``WeightsError`` for a file that is damaged or does not fit, ``UsageError`` where it contradicts ``variant``.
    """
    if weights.suffix.lower() in SUFFIXES:
        raise WeightsError(
            f"{str(weights)!r} is an exported network, which its engine runs whole: must be weights here",
            hint="mpvit predict and mpvit eval take it; name the weights that it was made of",
        )
    content = read_weights(weights)
    require_classifier(content)
    config = config_of(content.config, variant, weights)
    names = class_names(config.num_classes, content.metadata, classes, weights)
    model = empty_network(config, "cpu")
    try:
        load_into(model, content)
    except WeightsError as error:
        if variant or content.config:
            raise
        hint = f"the file does not say its variant, so it was taken for {DEFAULT_VARIANT}: name it with --variant"
        raise WeightsError(str(error), hint=hint) from None
    return _network(model, names, weights, device, content.metadata)


def random_network(
    network: str | ModelConfig | None = None, classes: Path | None = None, device: torch.device | None = None
) -> Network:
    """Return an untrained network, by the variant's name (default xsmall) or a configuration.

    It is the same each time, and no random state is touched.
    """
    config = network if isinstance(network, ModelConfig) else get_config(network or DEFAULT_VARIANT)
    names = class_names(config.num_classes, NO_METADATA, classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        model = MPViT(config).eval()
    return _network(model, names, None, device)


def _network(
    model: MPViT, classes: tuple[str, ...], weights: Path | None, device: torch.device | None, metadata: Metadata | None = None
) -> Network:
    place = device or torch.device("cpu")
    return Network(
        model.to(place),
        classes,
        (metadata and metadata.preprocessing) or PUBLISHED_PREPROCESSING,
        about(model, weights, place, metadata),
    )


def about(model: ConfiguredModule, weights: Path | None, device: torch.device, metadata: Metadata | None = None) -> Classifier:
    """Return what a network is that answers: ``weights`` is its file, None where they are random."""
    return Classifier(
        model=name_of(model.config),
        weights=label(weights) if weights else None,
        device=str(device),
        threads=torch.get_num_threads(),
        dtype=str(next(iter(model.state_dict().values())).dtype).removeprefix("torch."),
        training=metadata.trained if metadata else None,
        task=(metadata and metadata.task) or "",
    )


def name_of(config: ModelConfig) -> str:
    """Return the name of the network that ``config`` is built like; ``custom`` for any other."""
    return next((name for name, known in NETWORKS.items() if known.stages == config.stages), "custom")


def label(weights: Path) -> str:
    """Return what a person calls the file: one that came along by its place in the package."""
    package = Path(str(files("mpvit")))
    return str(weights.relative_to(package.parent)) if weights.is_relative_to(package / "data") else str(weights)


def config_of(own: ModelConfig | None, variant: str | None, path: Path) -> ModelConfig:
    """Return the configuration that the file ``path`` carries, its ``own``, or that of ``variant`` (default xsmall).

    Raises ``UsageError`` where they are of two networks.
    """
    wanted = get_config(variant or DEFAULT_VARIANT)
    if own is None:
        return wanted
    if variant and own.stages != wanted.stages:
        raise UsageError(
            f"variant {variant!r}: {path} holds another network, by the configuration in it",
            hint="leave the variant away: this file needs none",
        )
    return own


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
    """Yield what ``model`` sees in each of ``images``, in their order, computed a batch at a time.

    An image that cannot be read yields a ``Prediction`` with its ``error``; the others go on. A network of fewer classes
    than ``top`` gives all of them. Raises ``UsageError``, at once, for a network that cannot classify RGB images or
    is not in evaluation mode, and ``MpvitError`` where it fails on a batch.
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
    """Raise ``UsageError`` for a network that takes no RGB images."""
    if model.config.in_channels != _IMAGE_CHANNELS:
        raise UsageError(f"in_channels = {model.config.in_channels}: must be 3, the network is shown RGB images")


def _predictions(
    model: MPViT | ExportedNetwork, classes: Sequence[str], images: Sequence[Path], config: InferenceConfig
) -> Iterator[Prediction]:
    for first in range(0, len(images), config.batch):
        batch = images[first : first + config.batch]
        prepared = [_try_preparing(path, config) for path in batch]
        scores = iter(_probabilities(model, [image for image in prepared if not isinstance(image, str)]))
        for path, image in zip(batch, prepared, strict=True):
            name = printable(path)
            yield Prediction(name, error=image) if isinstance(image, str) else _best(name, next(scores), classes, config.top)


def printable(path: Path) -> str:
    """Return a file's name as it can be printed: it need not be UTF-8, what is printed must."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _try_preparing(path: Path, config: InferenceConfig) -> NDArray[np.float32] | str:
    """Return the network's input, float32 (3, size, size), or why there is none."""
    try:
        return preprocess(read_image(path), config)
    except ImageError as error:
        return error.reason
    except MemoryError:
        return f"{config.size} × {config.size} pixels of it do not fit into memory"


@torch.inference_mode()
def _probabilities(model: MPViT | ExportedNetwork, images: Sequence[NDArray[np.float32]]) -> Tensor:
    """Map images (3, size, size) to their classes' probabilities, float64 (images, classes) on the CPU."""
    if not images:
        return torch.empty(0)
    parameter = next(model.parameters(), torch.empty(0))  # an engine has none
    try:
        logits = model(torch.from_numpy(np.stack(images)).to(parameter))
    except (RuntimeError, MemoryError) as error:  # torch's own out-of-memory errors are RuntimeErrors
        raise failed(error, len(images), images[0].shape[-1]) from error
    return logits.cpu().double().softmax(-1)


def failed(error: Exception, images: int, pixels: int) -> MpvitError:
    """Return the error of a network that fails on so many images of a width in pixels."""
    hint = "a smaller size or batch needs less memory"
    return MpvitError(f"the network failed on {images} images of {pixels} pixels: {first_line(error)}", hint=hint)


def _best(image: str, probabilities: Tensor, classes: Sequence[str], top: int) -> Prediction:
    if not probabilities.isfinite().all():
        return Prediction(image, error="the network's answer is not a number; its weights may be damaged")
    order: list[int] = probabilities.argsort(descending=True, stable=True)[:top].tolist()
    return Prediction(image, tuple(ClassScore(index, classes[index], probabilities[index].item()) for index in order))

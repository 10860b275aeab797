"""Loading a network for prediction, with its class names: from weights, from an exported file, or untrained."""

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Generic, TypeVar

import torch

from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import DEFAULT_VARIANT, NETWORKS, get_config
from mpvit.dense import build, get_segmenter
from mpvit.dense.torch_network import DenseNetwork, empty_network
from mpvit.errors import UsageError, WeightsError, file_reason
from mpvit.export import SUFFIXES
from mpvit.export.exported_network import ExportedNetwork, open_exported
from mpvit.images import PUBLISHED_PREPROCESSING
from mpvit.model.metadata import NO_METADATA, Metadata, Preprocessing
from mpvit.model.network import MPViT
from mpvit.model.weights import WeightsFile, load_into, read_weights, require_classifier
from mpvit.prediction.results import UNKNOWN, NetworkInfo

_SEED = 0
"""Random seed of an untrained network."""

Model = TypeVar("Model", MPViT, DenseNetwork, ExportedNetwork)
TorchModel = TypeVar("TorchModel", MPViT, DenseNetwork)


@dataclass(frozen=True, slots=True)
class Predictor(Generic[Model]):
    """A network in evaluation mode on its device, with the names of its classes by index, and its preprocessing."""

    model: Model
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    about: NetworkInfo

    @property
    def metadata(self) -> Metadata:
        """The metadata to save with the weights."""
        return Metadata(self.classes, self.preprocessing, self.about.training, self.about.task or None)


def open_network(
    weights: Path, variant: str | None = None, classes: Path | None = None, device: torch.device | None = None
) -> Predictor[MPViT] | Predictor[ExportedNetwork]:
    """Return the classifier in a file of weights, or in an exported file, which is recognised by its suffix.

    Errors are those of ``load_network`` and ``load_exported``.
    """
    if weights.suffix == ".bin" and weights.with_suffix(".xml").exists():
        raise UsageError(f"{str(weights)!r} holds only the numbers of an exported network", hint="use the .xml next to it")
    if weights.suffix.lower() not in SUFFIXES:
        return load_network(weights, variant, classes, device)
    if device is not None and device.type != "cpu":
        raise UsageError(f"device {str(device)!r} with {str(weights)!r}: an exported network runs on the cpu")
    return load_exported(weights, variant, classes)


def load_network(
    weights: Path, variant: str | None = None, classes: Path | None = None, device: torch.device | None = None
) -> Predictor[MPViT]:
    """Return the classifier whose weights are in a file.

    A safetensors file of this project has the configuration and may have the names of the classes; any other file is a
    checkpoint of the published ``variant`` (default xsmall). ``classes`` is a text file of names that replaces them.
    Raises ``WeightsError`` for a file that is damaged or does not fit, and ``UsageError`` if it contradicts ``variant``.
    """
    if weights.suffix.lower() in SUFFIXES:
        raise WeightsError(
            f"{str(weights)!r} is an exported network, which only its engine can run: must be weights here",
            hint="predict and evaluate with it, or use the weights that it was exported from",
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
        hint = f"the file does not name its variant, so {DEFAULT_VARIANT} was assumed: name the variant"
        raise WeightsError(str(error), hint=hint) from None
    return _predictor(model, names, weights, device, content.metadata)


def load_segmenter(weights: Path, classes: Path | None = None, device: torch.device | None = None) -> Predictor[DenseNetwork]:
    """Return the segmenter whose weights are in a file that training wrote.

    ``classes`` is a text file of names that replaces those in it. Raises ``WeightsError`` for a file that is damaged, does not
    fit, or has no segmenter.
    """
    content = read_weights(weights)
    model = filled_segmenter(content)
    names = content.metadata.classes or ()
    return _predictor(model, read_classes(classes, len(names)) if classes else names, weights, device, content.metadata)


def filled_segmenter(content: WeightsFile) -> DenseNetwork:
    """Return the segmenter in a weights file, in evaluation mode; errors are those of ``load_segmenter``."""
    metadata = content.metadata
    if metadata.task is None:
        raise WeightsError(f"{content.path} has no segmenter", hint="use weights that were trained with a task")
    if content.config is None or metadata.classes is None:
        raise WeightsError(f"{content.path} is damaged: a segmenter needs its configuration and its classes")
    try:
        with torch.random.fork_rng(devices=[]):
            model = build(content.config, get_segmenter(metadata.task, len(metadata.classes))).eval()
    except UsageError as error:
        raise WeightsError(f"{content.path} is damaged: {error}") from None
    load_into(model, content)
    return model


def load_exported(path: Path, variant: str | None = None, classes: Path | None = None) -> Predictor[ExportedNetwork]:
    """Return the classifier in an exported file; without a description in it, classes and preprocessing are the published ones.

    Raises ``WeightsError`` for a file that is damaged or takes no images, ``UsageError`` if it contradicts ``variant``, and
    ``MpvitError`` if its engine is not installed.
    """
    file = open_exported(path)
    signature, name = file.network.config, UNKNOWN
    if file.config is not None:
        name = name_of(config_of(file.config, variant, path))
        if file.config.num_classes == 0:
            raise UsageError("num_classes = 0: must be at least 1, this network only gives features")
    size = signature.height or PUBLISHED_PREPROCESSING.size
    preprocessing = file.metadata.preprocessing or replace(PUBLISHED_PREPROCESSING, size=size)
    threads, engine = torch.get_num_threads(), file.network.engine
    about = NetworkInfo(name, label(path), "cpu", threads, file.dtype, file.metadata.trained, engine)
    return Predictor(file.network, class_names(signature.num_classes, file.metadata, classes, path), preprocessing, about)


def random_network(
    network: str | ModelConfig | None = None, classes: Path | None = None, device: torch.device | None = None
) -> Predictor[MPViT]:
    """Return an untrained network, by the name of a variant (default xsmall) or a configuration.

    Its weights are the same each time; the random state does not change.
    """
    config = network if isinstance(network, ModelConfig) else get_config(network or DEFAULT_VARIANT)
    names = class_names(config.num_classes, NO_METADATA, classes)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        model = MPViT(config).eval()
    return _predictor(model, names, None, device, NO_METADATA)


def _predictor(
    model: TorchModel, classes: tuple[str, ...], weights: Path | None, device: torch.device | None, metadata: Metadata
) -> Predictor[TorchModel]:
    """Return a model on its device; ``weights`` is None for random weights."""
    place = device or torch.device("cpu")
    about = NetworkInfo(
        model=name_of(model.config),
        weights=label(weights) if weights else None,
        device=str(place),
        threads=torch.get_num_threads(),
        dtype=str(next(iter(model.state_dict().values())).dtype).removeprefix("torch."),
        training=metadata.trained,
        task=metadata.task or "",
    )
    return Predictor(model.to(place), classes, metadata.preprocessing or PUBLISHED_PREPROCESSING, about)


def name_of(config: ModelConfig) -> str:
    """Return the name of the network with the same stages; ``custom`` if there is none."""
    return next((name for name, known in NETWORKS.items() if known.stages == config.stages), "custom")


def label(weights: Path) -> str:
    """Return the name of a file for people: the path inside the package for weights that are part of it."""
    package = Path(str(files("mpvit")))
    return str(weights.relative_to(package.parent)) if weights.is_relative_to(package / "data") else str(weights)


def config_of(own: ModelConfig | None, variant: str | None, path: Path) -> ModelConfig:
    """Return the configuration in the file ``path``, which is ``own``, or that of ``variant`` (default xsmall).

    Raises ``UsageError`` if they are of two networks.
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


IMAGENET_CLASSES = 1000


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of the 1000 ImageNet-1K classes by index; a few names occur twice."""
    text = (files("mpvit") / "data" / "imagenet1k_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def read_classes(path: Path, number: int) -> tuple[str, ...]:
    """Return the ``number`` class names in a text file, one a line by index; raise ``UsageError`` if there are not so many."""
    hint = "one name a line, in index order"
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read class names {str(path)!r}: {file_reason(error)}", hint=hint) from None
    names = tuple(line.strip() for line in text.split("\n")) if text else ()
    if len(names) != number:
        raise UsageError(f"class names {str(path)!r}: {len(names)} lines, the network has {number} classes", hint=hint)
    return names


def class_names(number: int, metadata: Metadata, path: Path | None, weights: Path | None = None) -> tuple[str, ...]:
    """Return the names in the text file ``path``, else in the metadata of ``weights``, else the default names."""
    if path:
        return read_classes(path, number)
    if metadata.classes is not None:
        if len(metadata.classes) != number:
            raise WeightsError(f"{weights} names {len(metadata.classes)} classes, its network has {number}")
        return metadata.classes
    return imagenet_classes() if number == IMAGENET_CLASSES else tuple(f"class {index}" for index in range(number))

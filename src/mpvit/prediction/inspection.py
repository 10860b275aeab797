"""Inspecting and converting weights files: what a file holds, and whether it fits its network."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mpvit.architecture.config import ModelConfig
from mpvit.architecture.published import is_published
from mpvit.architecture.variants import NETWORKS, get_config
from mpvit.counting import count
from mpvit.dense.torch_network import DenseNetwork, empty_network
from mpvit.errors import MpvitError, UsageError, WeightsError
from mpvit.export import SUFFIXES, get_target
from mpvit.export.exported_network import open_exported
from mpvit.model.metadata import TrainingRecord
from mpvit.model.network import MPViT
from mpvit.model.weights import WeightsFile, load_into, read_weights, save_weights, with_classes_of
from mpvit.prediction.loading import filled_segmenter, name_of

LAYOUTS = ("project", "published")


@dataclass(frozen=True, slots=True)
class Inspection:
    """The content of a weights file.

    Attributes:
        layout: layout of the tensor names, one of ``LAYOUTS``; the target of an exported network.
        nbytes: size of the file in bytes; for OpenVINO together with the file next to it.
        tensors: number of tensors; 0 for an exported network, whose engine has its own form.
        params: learned parameters, if the network is known; otherwise elements of all tensors.
        model: name of the network that the file fits; ``custom`` for a configuration of its own, None if it fits none.
        misfit: why the file does not fit the network it was compared to; empty if it fits.
    """

    path: Path
    layout: str
    nbytes: int
    tensors: int
    params: int
    dtypes: tuple[str, ...]
    model: str | None
    content: WeightsFile
    misfit: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return one flat row for JSON and CSV."""
        metadata = self.content.metadata
        return {
            "weights": str(self.path),
            "layout": self.layout,
            "bytes": self.nbytes,
            "tensors": self.tensors,
            "params": self.params,
            "dtypes": list(self.dtypes),
            "model": self.model,
            "config": asdict(self.content.config) if self.content.config else None,
            "classes": list(metadata.classes) if metadata.classes is not None else None,
            "preprocessing": asdict(metadata.preprocessing) if metadata.preprocessing else None,
            "task": metadata.task,
            "trained": _trained_row(metadata.trained),
            "misfit": self.misfit or None,
        }


def inspect(path: Path, variant: str | None = None) -> Inspection:
    """Return the content of a file, compared to the network of ``variant``, its own configuration, or any known network.

    Raises ``WeightsError`` if it is damaged.
    """
    if path.suffix.lower() in SUFFIXES:
        return _inspect_exported(path, variant)
    content = read_weights(path)
    tensors = {name: each for name, each in content.tensors.items() if isinstance(each, Tensor)}
    model, misfit, network = _fitting(content, variant)
    params = network.parameters() if network else tensors.values()
    return Inspection(
        path=path,
        layout="published" if any(map(is_published, tensors)) else "project",
        nbytes=path.stat().st_size,
        tensors=len(tensors),
        params=sum(each.numel() for each in params),
        dtypes=tuple(sorted({str(each.dtype).removeprefix("torch.") for each in tensors.values()})),
        model=model,
        content=content,
        misfit=misfit,
    )


def _fitting(content: WeightsFile, variant: str | None) -> tuple[str | None, str, MPViT | DenseNetwork | None]:
    """Return the name of the network that a file fits, why it does not fit the first candidate, and the filled network."""
    stem = content.tensors.get("stem.0.conv.weight")
    candidates: Mapping[str, ModelConfig] = NETWORKS
    if variant and not content.metadata.task:
        candidates = {variant: get_config(variant)}
    elif content.config:
        candidates = {name_of(content.config): content.config}
    elif isinstance(stem, Tensor) and stem.ndim:  # has half the channels of the first stage
        candidates = {name: config for name, config in NETWORKS.items() if config.stages[0].dim == 2 * len(stem)} or NETWORKS
    misfit = ""
    for name, config in candidates.items():
        try:
            return name, "", filled(content, config if content.config else with_classes_of(content, config))
        except WeightsError as error:
            misfit = misfit or str(error)
    return None, misfit, None


def convert(path: Path, layout: str, target: Path, variant: str | None = None) -> Inspection:
    """Write the weights in ``path`` to ``target`` in one of ``LAYOUTS``; return what they were.

    The published layout has no place for the metadata. Raises ``MpvitError`` if they fit no network, and ``UsageError`` if they
    cannot be written to ``target``.
    """
    found = inspect(path, variant)
    if found.layout not in LAYOUTS:
        message = f"{path} is an exported network: its weights have another form"
        raise MpvitError(message, hint="convert the weights that it was exported from")
    if found.model is None:
        hint = "verify the file with the name of its variant to see what is wrong"
        raise MpvitError(f"{path} fits no network: {found.misfit}", hint=hint)
    if target.resolve() == path.resolve():
        raise UsageError(f"{str(target)!r} is the file that is read: must be another one")
    config = found.content.config or with_classes_of(found.content, get_config(found.model))
    save_weights(filled(found.content, config), target, layout=layout, metadata=found.content.metadata)
    return found


def _inspect_exported(path: Path, variant: str | None) -> Inspection:
    target, file = SUFFIXES[path.suffix.lower()], open_exported(path)
    misfit = "" if file.config else "its file does not say which network it is"
    if file.config and variant and get_config(variant).stages != file.config.stages:
        misfit = f"it is not {variant}, by the configuration in it"
    return Inspection(
        path=path,
        layout=target,
        nbytes=sum(path.with_suffix(suffix).stat().st_size for suffix in get_target(target).suffixes),
        tensors=0,
        params=(count(file.config).params or 0) if file.config else 0,
        dtypes=(file.dtype,),
        model=None if misfit or file.config is None else name_of(file.config),
        content=WeightsFile(path, {}, file.config, file.metadata),
        misfit=misfit,
    )


def filled(content: WeightsFile, config: ModelConfig) -> MPViT | DenseNetwork:
    """Return the network of ``config``, or the segmenter, with the weights of a file.

    Raises ``WeightsError`` if they do not fit.
    """
    if content.metadata.task:
        return filled_segmenter(content)
    model: MPViT = empty_network(config, "cpu")
    load_into(model, content)
    return model


def _trained_row(trained: TrainingRecord | None) -> dict[str, Any] | None:
    if trained is None:
        return None
    row = {name: value for name, value in asdict(trained).items() if name != "overlap"}
    if trained.overlap is None:
        return row | {"top1": trained.accuracy}
    overlap = trained.overlap
    row |= {"pixels": overlap.pixels, "pixel_accuracy": trained.accuracy}
    return row | {"miou": overlap.miou, "miou_low": overlap.low, "miou_high": overlap.high}

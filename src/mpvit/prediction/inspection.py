"""What a weights file is, and whether it fits what it says, or what it is taken for."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mpvit.config import ModelConfig
from mpvit.counting import count
from mpvit.dense.torch_network import DenseNetwork, empty_network
from mpvit.errors import MpvitError, UsageError, WeightsError
from mpvit.export import SUFFIXES, get_target
from mpvit.export.exported_network import open_exported
from mpvit.model.metadata import TrainingRecord
from mpvit.model.network import MPViT
from mpvit.model.weights import WeightsFile, load_into, read_weights, save_weights, with_classes_of
from mpvit.prediction.inference import name_of
from mpvit.prediction.segmentation import filled_segmenter
from mpvit.published import is_published
from mpvit.variants import NETWORKS, get_config

if TYPE_CHECKING:
    from collections.abc import Mapping

LAYOUTS = ("project", "published")


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a weights file is.

    Attributes:
        path: of the file.
        layout: whose names its tensors have, one of ``LAYOUTS``; of an exported network its target.
        nbytes: of the file; of OpenVINO's with the one beside it.
        tensors: how many it holds; 0 of an exported network, which has them in a form of its engine's.
        params: numbers in those that are learned, as far as the network is known; else in all.
        dtypes: of the tensors.
        model: the network that it fits, by name; ``custom`` for one of its own configuration, None where none fits.
        content: the file's own words.
        misfit: why it does not fit the network that it was held against; empty where it does.
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
        """Return it as one flat row for JSON and CSV."""
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


def inspect(path: Path, variant: str | None = None) -> Inspected:
    """Return what a file is, held against the network of ``variant``, its own configuration or any published one.

    Raises ``WeightsError`` where it is damaged.
    """
    if path.suffix.lower() in SUFFIXES:
        return _exported(path, variant)
    content = read_weights(path)
    tensors: Mapping[str, Tensor] = {name: each for name, each in content.tensors.items() if isinstance(each, Tensor)}
    candidates = {variant: get_config(variant)} if variant and not content.metadata.task else _candidates(content)
    model, misfit, params = None, "", sum(each.numel() for each in tensors.values())
    for name, config in candidates.items():
        wanted = with_classes_of(content, config) if content.config is None else config
        try:
            network = filled(content, wanted)
        except WeightsError as error:
            misfit = misfit or str(error)
        else:
            model, misfit = name, ""
            params = sum(each.numel() for each in network.parameters())
            break
    return Inspected(
        path=path,
        layout="published" if any(map(is_published, tensors)) else "project",
        nbytes=path.stat().st_size,
        tensors=len(tensors),
        params=params,
        dtypes=tuple(sorted({str(each.dtype).removeprefix("torch.") for each in tensors.values()})),
        model=model,
        content=content,
        misfit=misfit,
    )


def convert(path: Path, layout: str, target: Path, variant: str | None = None) -> Inspected:
    """Write the weights in ``path`` to ``target`` in one of ``LAYOUTS``; return what they were.

    To the published layout the metadata does not go along: it has no place for it. Raises ``MpvitError`` where they fit no
    network, ``UsageError`` where they cannot be written there.
    """
    found = inspect(path, variant)
    if found.layout not in LAYOUTS:
        raise MpvitError(f"{path} is an exported network: its weights have another form", hint="convert what it was made of")
    if found.model is None:
        raise MpvitError(
            f"{path} fits no network: {found.misfit}", hint="mpvit weights verify --variant NAME says what is wrong"
        )
    if target.resolve() == path.resolve():
        raise UsageError(f"{str(target)!r} is the file that is read: must be another one")
    config = found.content.config or with_classes_of(found.content, get_config(found.model))
    save_weights(filled(found.content, config), target, layout=layout, metadata=found.content.metadata)
    return found


def _exported(path: Path, variant: str | None) -> Inspected:
    """Return what an exported file says of itself, once its engine has opened it."""
    target, file = SUFFIXES[path.suffix.lower()], open_exported(path)
    misfit = "" if file.config else "its file does not say which network it is"
    if file.config and variant and get_config(variant).stages != file.config.stages:
        misfit = f"it is not {variant}, by the configuration in it"
    return Inspected(
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
    """Return the network of ``config`` with the weights of a file, or the segmenter in it.

    Raises ``WeightsError`` where they do not fit.
    """
    if content.metadata.task:
        return filled_segmenter(content)
    model: MPViT = empty_network(config, "cpu")
    load_into(model, content)
    return model


def _trained_row(trained: TrainingRecord | None) -> dict[str, Any] | None:
    if trained is None:
        return None
    if trained.overlap is None:
        return {name: value for name, value in asdict(trained).items() if name != "overlap"} | {"top1": trained.accuracy}
    overlap = trained.overlap
    found = asdict(trained) | {"pixels": overlap.pixels, "pixel_accuracy": trained.accuracy}
    del found["overlap"]
    return found | {"miou": overlap.miou, "miou_low": overlap.low, "miou_high": overlap.high}


def _candidates(content: WeightsFile) -> dict[str, ModelConfig]:
    if content.config is None:
        return NETWORKS
    return {name_of(content.config): content.config}

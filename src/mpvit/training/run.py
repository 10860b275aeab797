"""A training run: the folder with its configuration, its weights and its log, and the checkpoint that it resumes from."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import torch

from mpvit import dense
from mpvit.architecture.config import ModelConfig
from mpvit.errors import MpvitError, UsageError, file_reason
from mpvit.files import write_atomically
from mpvit.model.metadata import Metadata, Preprocessing, TrainingRecord
from mpvit.model.weights import ConfiguredModule, save_weights
from mpvit.network import NamedNetwork
from mpvit.progress import Track, untracked
from mpvit.training.data import open_data
from mpvit.training.data.splits import Data
from mpvit.training.recipe import Recipe, require_maskable
from mpvit.training.results import Epoch

if TYPE_CHECKING:
    from accelerate import Accelerator

CONFIG, LOG, CHECKPOINT, WEIGHTS, CURVES = "config.json", "log.jsonl", "last.ckpt", "weights.safetensors", "curves.svg"

_LIBRARIES = ("mpvit", "torch", "accelerate", "kornia", "torchmetrics", "numpy", "pillow")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """Network, data and recipe of a run: the content of ``config.json``.

    Attributes:
        data: argument of ``open_data``.
        fingerprint: fingerprint of the images that can be read.
        damaged: names of the images that cannot be read, with the reason.
        network: configuration with the number of classes of the data; 0 for the backbone of a segmenter.
        recipe_name: name of the recipe that ``recipe`` is derived from.
        versions: versions of the libraries at the start.
        task: segmenter on the network; empty for a classifier.
    """

    data: str
    fingerprint: str
    damaged: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    model: str
    network: ModelConfig
    recipe_name: str
    recipe: Recipe
    versions: dict[str, str]
    task: str = ""

    def __post_init__(self) -> None:
        """Raise ``UsageError`` for an unknown segmenter, and for a network without its feature maps."""
        if self.segmenter:
            dense.require_levels(self.network, self.segmenter)

    @classmethod
    def of(
        cls, data: Data, network: NamedNetwork, recipe_name: str, recipe: Recipe, versions: Mapping[str, str] | None = None
    ) -> Self:
        """Return the configuration for a network, which gets the classes of ``data``."""
        return cls(
            data=data.location,
            fingerprint=data.fingerprint,
            damaged=data.damaged,
            classes=data.classes,
            model=network.name,
            network=replace(network.config, num_classes=0 if network.task else len(data.classes)),
            recipe_name=recipe_name,
            recipe=recipe,
            versions=dict(versions or {}),
            task=network.task.name if network.task else "",
        )

    @property
    def segmenter(self) -> dense.Task | None:
        """The segmenter with the classes of the data; None for a classifier."""
        return dense.get_segmenter(self.task, len(self.classes)) if self.task else None

    @property
    def preprocessing(self) -> Preprocessing:
        """Preprocessing of the images in evaluation."""
        return Preprocessing(self.recipe.size, self.recipe.crop)


class Run:
    """The files of a run. Each is complete at any moment; the checkpoint is the one that a run resumes from."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder, self.config = folder, config
        self.checkpoint, self.weights = folder / CHECKPOINT, folder / WEIGHTS

    @classmethod
    def create(cls, folder: Path, config: RunConfig) -> Run:
        """Make the folder and write the configuration; raise ``UsageError`` if it has a run already."""
        if (folder / CONFIG).exists():
            raise UsageError(f"{str(folder)!r} holds a run already", hint="resume it, or use another folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}", hint="use another folder") from None
        write_atomically(folder / CONFIG, msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n")
        return cls(folder, config)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Return the run in a folder; raise ``UsageError`` if there is none, and ``MpvitError`` if it is damaged."""
        path = folder / CONFIG
        try:
            return cls(folder, msgspec.json.decode(path.read_bytes(), type=RunConfig))
        except OSError as error:
            raise UsageError(
                f"no run in {str(folder)!r}: {path.name}: {error.strerror}", hint="use the folder of a run"
            ) from None
        except msgspec.MsgspecError as error:
            raise MpvitError(f"{path} is damaged: {error}", hint="the run cannot resume without it: start another") from None

    def remove_unfinished_files(self) -> None:
        """Remove what a process that was killed left half-written."""
        for name in (CONFIG, LOG, CHECKPOINT, WEIGHTS, CURVES):
            for part in self.folder.glob(f".{name}.*"):
                part.unlink(missing_ok=True)

    def open_data(self) -> Data:
        """Return the data of the run; raise ``MpvitError`` if its images are not those that the run started with."""
        data = open_data(self.config.data, masked=bool(self.config.task)).without(self.config.damaged)
        if data.fingerprint != self.config.fingerprint:
            raise MpvitError(
                f"the images of {data.location} have changed since {self.folder} was started",
                hint="a run resumes with the same images: restore them, or start another run",
            )
        return data

    def save_epoch(self, network: ConfiguredModule, data: Data, history: Sequence[Epoch]) -> None:
        """Write the weights, with everything that prediction needs, and the log after an epoch."""
        last = history[-1]
        trained = TrainingRecord(
            data=data.name,
            held_out=data.share,
            images=last.held_out_images,
            correct=last.held_out_correct,
            epochs=last.epoch,
            recipe=self.config.recipe_name,
            overlap=last.overlap,
        )
        metadata = Metadata(data.classes, self.config.preprocessing, trained, self.config.task or None)
        save_weights(network, self.weights, metadata=metadata)
        lines = "".join(f"{json.dumps(asdict(epoch))}\n" for epoch in history)
        write_atomically(self.folder / LOG, lines.encode())


FORMAT = 2
"""Version of the format of a checkpoint."""


@dataclass(slots=True)
class Checkpoint:
    """State of a run after a step.

    Attributes:
        step: steps of the optimizer so far.
        network, average, optimizer: state dicts of the network, of its moving average and of the optimizer.
        loss, correct, answers, seen: sums over the current epoch, if it is not complete: of the loss, of correct predictions,
            of predictions (of images, or of labelled pixels), and of images.
        history: results of the completed epochs.
    """

    step: int
    network: dict[str, Any]
    average: dict[str, Any]
    optimizer: dict[str, Any]
    loss: float
    correct: int
    answers: int
    seen: int
    history: list[Epoch]

    def save(self, path: Path) -> None:
        """Write the checkpoint, whole or not at all."""
        content = {name: getattr(self, name) for name in self.__slots__}
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **content, "history": [asdict(epoch) for epoch in self.history]}, buffer)
        write_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Return the checkpoint in a file, None if there is no file; raise ``MpvitError`` if it is damaged."""
        if not path.exists():
            return None
        hint = f"remove {path} to start this run again; the weights of its last epoch are next to it"
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content.pop("format") == FORMAT:
                return cls(**content | {"history": msgspec.convert(content["history"], list[Epoch])})
        except OSError as error:
            raise MpvitError(f"cannot read {str(path)!r}: {file_reason(error)}") from None
        except Exception:  # noqa: BLE001 - an unpickler raises any class for damaged bytes
            raise MpvitError(f"{path} is damaged: it is not a complete checkpoint of a run", hint=hint) from None
        raise MpvitError(f"{path} was written by another version of mpvit", hint=hint)


def start_run(
    folder: Path,
    data: str,
    network: NamedNetwork,
    recipe_name: str,
    recipe: Recipe,
    accelerator: Accelerator,
    *,
    workers: int = 0,
    track: Track = untracked,
) -> tuple[Run, Data]:
    """Return a new run in ``folder``, and its data without images that cannot be read.

    The network, or its segmenter, gets the classes of the data. Errors are those of ``open_data``, ``require_held_out``,
    ``require_maskable`` and ``Run.create``.
    """
    from mpvit.training.distributed import without_damaged

    opened = open_data(data, masked=network.task is not None)
    if network.task:
        require_maskable(recipe)
        dense.require_levels(network.config, network.task)
    opened.require_held_out()
    opened = without_damaged(opened, accelerator, workers, track)
    opened.require_held_out()
    config = RunConfig.of(opened, network, recipe_name, recipe, {library: version(library) for library in _LIBRARIES})
    run = Run.create(folder, config) if accelerator.is_main_process else Run(folder, config)
    accelerator.wait_for_everyone()
    return run, opened

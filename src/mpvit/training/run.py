"""A run: the folder that holds what it trains with, how far it is, and what has come of it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from mpvit.errors import MpvitError, UsageError, first_line
from mpvit.files import write_atomically
from mpvit.model.metadata import Metadata, TrainingRecord
from mpvit.model.weights import save_weights
from mpvit.training.results import Epoch
from mpvit.training.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mpvit.model.weights import ConfiguredModule
    from mpvit.training.data import Data

CONFIG, LOG, CHECKPOINT, WEIGHTS, CURVES = "config.json", "log.jsonl", "last.ckpt", "weights.safetensors", "curves.svg"

_FORMAT = 2
"""Of a checkpoint."""


@dataclass(slots=True)
class State:
    """How far a run is.

    Attributes:
        step: steps of the optimizer that are done.
        network, average, optimizer: their state dicts; none at the beginning.
        loss, correct, answers, seen: sums over an epoch that is not over yet; answers are of pictures, or of pixels.
        history: the epochs that are.
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


class Run:
    """The files of one run in a folder; each is whole at any moment, and the checkpoint is the one that counts."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Read and write nothing yet."""
        self.folder, self.settings = folder, settings

    @classmethod
    def begin(cls, folder: Path, settings: Settings) -> Run:
        """Make the folder and write its settings; raise ``UsageError`` where it holds a run already."""
        if (folder / CONFIG).exists():
            raise UsageError(
                f"{str(folder)!r} holds a run already", hint=f"--resume {folder} goes on with it; or name another -o"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}", hint="name another -o") from None
        run = cls(folder, settings)
        write_atomically(folder / CONFIG, msgspec.json.format(msgspec.json.encode(settings), indent=2) + b"\n")
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Return the run in a folder; raise ``UsageError`` where there is none, ``MpvitError`` where it is damaged."""
        path = folder / CONFIG
        try:
            settings = msgspec.json.decode(path.read_bytes(), type=Settings)
            settings.require()
        except OSError as error:
            raise UsageError(f"no run in {str(folder)!r}: {path.name}: {error.strerror}", hint="name a run's folder") from None
        except (msgspec.MsgspecError, UsageError) as error:
            raise MpvitError(f"{path} is damaged: {error}", hint="the run cannot go on without it: begin another") from None
        return cls(folder, settings)

    def require(self, data: Data) -> None:
        """Raise ``MpvitError`` where the pictures are not those that the run began with."""
        if data.fingerprint != self.settings.fingerprint:
            raise MpvitError(
                f"the pictures of {data.where} have changed since {self.folder} began",
                hint="a run goes on with the pictures that it began with: put them back, or begin another",
            )

    # ── how far it is ───────────────────────────────────────────────────────────────────────────────────────────────

    def load(self) -> State | None:
        """Return how far the run is, None where it has only begun; raise ``MpvitError`` where that is damaged."""
        path = self.folder / CHECKPOINT
        if not path.exists():
            return None
        hint = f"remove {path} to begin this run anew; the weights of its last epoch are in {WEIGHTS}"
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            if content.pop("format") != _FORMAT:
                raise MpvitError(f"{path} was written by another version of mpvit", hint=hint)
            history = [msgspec.convert(line, Epoch) for line in content.pop("history")]
            return State(**content, history=history)
        except (OSError, RuntimeError, KeyError, TypeError, AttributeError, ValueError, EOFError) as error:
            raise MpvitError(f"{path} is damaged: {first_line(error)}", hint=hint) from None
        except (pickle.UnpicklingError, zipfile.BadZipFile, msgspec.MsgspecError) as error:
            raise MpvitError(f"{path} is damaged: {str(error).partition('.')[0]}", hint=hint) from None

    def save(self, state: State) -> None:
        """Write how far the run is, whole or not at all."""
        content = {name: getattr(state, name) for name in State.__slots__ if name != "history"}
        history = [asdict(epoch) for epoch in state.history]
        buffer = io.BytesIO()
        torch.save({"format": _FORMAT, **content, "history": history}, buffer)
        write_atomically(self.folder / CHECKPOINT, buffer.getvalue())

    # ── what has come of it ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def weights(self) -> Path:
        """The file of the averaged weights."""
        return self.folder / WEIGHTS

    def save_epoch(self, network: ConfiguredModule, data: Data, history: Sequence[Epoch]) -> None:
        """Write the averaged weights after an epoch, with all that ``mpvit predict`` needs, and the log so far."""
        last = history[-1]
        trained = TrainingRecord(
            data=data.name,
            held_out=data.share,
            images=last.held_out_images,
            correct=last.held_out_correct,
            epochs=last.epoch,
            recipe=self.settings.recipe_name,
            overlap=last.overlap,
        )
        task = self.settings.task or None
        metadata = Metadata(classes=data.classes, preprocessing=self.settings.preprocessing, trained=trained, task=task)
        save_weights(network, self.weights, metadata=metadata)
        lines = "".join(f"{json.dumps(asdict(epoch))}\n" for epoch in history)
        write_atomically(self.folder / LOG, lines.encode())

"""Checkpoints: everything that a run needs to resume after a step."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import torch

from mpvit.errors import MpvitError, file_reason
from mpvit.files import write_atomically
from mpvit.training.results import Epoch

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

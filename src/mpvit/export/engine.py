"""A network in an engine, from its file or the bytes of one: called like any network of torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from mpvit.config import ModelConfig, config_from_dict
from mpvit.errors import MpvitError, WeightsError, first_line
from mpvit.export import SUFFIXES, Export, Opened, get_target
from mpvit.model.card import NO_CARD, Card, read_card

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Engine(nn.Module):
    """A network that an engine runs, in evaluation mode on the CPU; it has no parameters of torch.

    Its ``config`` says of a network's configuration what a caller has to know: the signature.
    """

    def __init__(self, opened: Opened) -> None:
        """Run what has been opened."""
        super().__init__()
        self.run, self.config, self.engine = opened.run, opened.signature, opened.engine
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map (b, c, h, w) -> (b, classes) logits, both float32; of a file for one batch as many calls as that takes.

        Raises ``UsageError`` for images that the file does not take, ``MpvitError`` where the engine fails.
        """
        self.config.require(tuple(images.shape))
        given = np.ascontiguousarray(images.detach().float().cpu().numpy())
        batch = self.config.batch
        if batch in (None, len(given)):
            return torch.from_numpy(self.run(given))
        answers = []
        for first in range(0, len(given), batch):
            part = given[first : first + batch]
            full = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), part.dtype)])
            answers.append(self.run(full)[: len(part)])
        return torch.from_numpy(np.concatenate(answers))


@dataclass(frozen=True, slots=True)
class EngineFile:
    """An exported file: its network, and what travels with it; the configuration is None in a file of somebody else."""

    engine: Engine
    config: ModelConfig | None = None
    card: Card = NO_CARD
    dtype: str = "float32"


def metadata_of(config: ModelConfig, card: Card, asked: Export) -> dict[str, str]:
    """Return what travels with an export, as in a safetensors file, and how it was made."""
    return {
        "mpvit.config": json.dumps(asdict(config)),
        **card.as_metadata(),
        "mpvit.export": json.dumps({name: value for name, value in asdict(asked).items() if name not in ("batch", "size")}),
    }


def open_engine(path: Path) -> EngineFile:
    """Open an exported file in its engine, with as many threads as torch has.

    Raises ``WeightsError`` for a file that is damaged or no network, ``MpvitError`` where its engine is not installed.
    """
    suffix = path.suffix.lower()
    target = get_target(SUFFIXES[suffix])
    files = {each: _read(path if each == suffix else path.with_suffix(each), path) for each in target.suffixes}
    try:
        opened = target.open(files, torch.get_num_threads())
    except MpvitError as error:
        raise WeightsError(f"cannot use {str(path)!r}: {error}", hint=error.hint) from None
    return _described(path, opened)


def _read(part: Path, path: Path) -> bytes:
    try:
        return part.read_bytes()
    except OSError as error:
        beside = f", which belongs to {path.name}" if part != path else ""
        raise WeightsError(f"cannot read {str(part)!r}{beside}: {error.strerror}") from None


def _described(path: Path, opened: Opened) -> EngineFile:
    """Return the file with what its metadata say; raise ``WeightsError`` where they cannot be read or contradict it."""
    known: Mapping[str, str] = opened.metadata
    if "mpvit.config" not in known:
        return EngineFile(Engine(opened))
    try:
        config = config_from_dict(json.loads(known["mpvit.config"]))
        dtype = str(json.loads(known["mpvit.export"])["dtype"])
        card = read_card(dict(known))
    except (ValueError, TypeError, KeyError, MpvitError) as error:
        raise WeightsError(f"{path} carries metadata that cannot be read: {first_line(error)}") from None
    signature = opened.signature
    if (config.in_channels, config.num_classes or config.stages[-1].dim) != (signature.in_channels, signature.num_classes):
        raise WeightsError(
            f"{path} is damaged: its network takes {signature.in_channels} channels to {signature.num_classes} classes, its "
            f"configuration {config.in_channels} to {config.num_classes}"
        )
    return EngineFile(Engine(opened), config, card, dtype)

"""Making an export: written for its engine, run there beside torch, and only then handed out."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpvit.cost import network as cost_of
from mpvit.errors import MpvitError, UsageError
from mpvit.export import Export, get_target
from mpvit.export.engine import Engine, metadata_of
from mpvit.export.results import Difference, Exported
from mpvit.files import write_together
from mpvit.model.card import Card, Preprocessing
from mpvit.units import times

if TYPE_CHECKING:
    from pathlib import Path

    from mpvit.model.network import MPViT

TOLERANCES = {"float32": 1e-5, "float16": 0.02, "int8": 0.25}
"""How far the logits may be from torch's in float32, norm over norm. What int8 costs, its accuracy says."""

_PICTURES = 32
"""That int8 is tried on, if so many are given: ranges are those of pictures, not of noise."""

_SEED = 0
"""Of the images that an export is tried with."""


def make(name: str, network: MPViT, card: Card, asked: Export, pictures: Tensor | None = None) -> Exported:
    """Return ``network``, of float32 and in evaluation mode, as the files that ``asked`` describes.

    ``pictures``, (n, c, h, w) as the network takes them, are what int8 is calibrated by and held against torch on; the others
    are tried with seeded noise. Raises ``UsageError`` for what the network or the target cannot do, ``MpvitError`` where the
    engine's logits are further from torch's than ``TOLERANCES`` allow, or a library is missing.
    """
    target = get_target(asked.target, asked.dtype)
    if asked.dtype == "int8" and (pictures is None or len(pictures) < asked.batch):
        raise UsageError(
            f"dtype int8: needs pictures to find the ranges of its numbers, {asked.batch} or more",
            hint="--data FOLDER or digits",
        )
    for batch, height, width in asked.shapes:
        cost_of(network.config, batch, height, width)  # it checks the sizes that the network can have
    calibration = pictures if asked.dtype == "int8" else None
    files = target.write(network, asked, metadata_of(network.config, _travelling(card, asked), asked), calibration)
    engine = Engine(target.open(files, torch.get_num_threads()))
    differences = tuple(_difference(network, engine, _images(network, shape, calibration)) for shape in asked.shapes)
    _check(differences, asked, engine.engine)
    calibrated = 0 if calibration is None else len(calibration)
    reference = f"torch {torch.__version__.partition('+')[0]}"
    threads = torch.get_num_threads()
    return Exported(
        name, asked, files, engine.engine, differences, TOLERANCES[asked.dtype], reference, threads, calibrated=calibrated
    )


def write(exported: Exported, path: Path) -> list[Path]:
    """Write an export's files, all of them whole or none; ``path`` is the first one's. Return where they are."""
    files = {path if path.suffix == suffix else path.with_suffix(suffix): data for suffix, data in exported.files.items()}
    write_together(files)
    return list(files)


def running(exported: Exported) -> Engine:
    """Return an export in its engine, with as many threads as torch has."""
    return Engine(get_target(exported.asked.target).open(exported.files, torch.get_num_threads()))


def _travelling(card: Card, asked: Export) -> Card:
    """Return the card with the pixels that a file of one size takes."""
    how = card.preprocessing or Preprocessing()
    return replace(card, preprocessing=replace(how, size=min(asked.size)))


def _images(network: MPViT, shape: tuple[int, int, int], pictures: Tensor | None) -> Tensor:
    batch, height, width = shape
    if pictures is not None:
        chosen = pictures[: max(batch, _PICTURES)]
        return torch.nn.functional.interpolate(chosen, (height, width), mode="bilinear", antialias=True)
    drawn = torch.Generator().manual_seed(_SEED)
    return torch.randn(batch, network.config.in_channels, height, width, generator=drawn)


def _difference(network: MPViT, engine: Engine, images: Tensor) -> Difference:
    with torch.inference_mode():
        wanted, given = network(images).double(), engine(images).double()
    if given.shape != wanted.shape:
        raise MpvitError(
            f"{engine.engine} gives {times(given.shape)} for {times(images.shape)}, torch {times(wanted.shape)}: not written"
        )
    return Difference(
        shape=tuple(images.shape),
        absolute=float((given - wanted).abs().max()),
        relative=float((given - wanted).norm() / wanted.norm()),
        probability=float((given.softmax(-1) - wanted.softmax(-1)).abs().max()),
    )


def _check(differences: tuple[Difference, ...], asked: Export, engine: str) -> None:
    worst = max(differences, key=lambda each: math.inf if math.isnan(each.relative) else each.relative)
    if not worst.relative <= TOLERANCES[asked.dtype]:
        raise MpvitError(
            f"{engine} on {times(worst.shape)}, {asked.dtype}: its logits are {worst.relative:.1e} from torch's, "
            f"more than {TOLERANCES[asked.dtype]:g}: not written"
        )

"""An exported network as a torch module, and the file that it comes from."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mpvit.architecture.config import ModelConfig, config_from_dict
from mpvit.errors import MpvitError, WeightsError, file_reason, first_line
from mpvit.export import SUFFIXES, ExportOptions, InferenceSession, get_target
from mpvit.model.metadata import NO_METADATA, Metadata, read_metadata


class ExportedNetwork(nn.Module):
    """A network that an engine runs on the CPU; it has no torch parameters.

    Attributes:
        config: shapes of its input and output, with the names that ``ModelConfig`` has for channels and classes.
        engine: name and version of its engine.
    """

    def __init__(self, session: InferenceSession) -> None:
        super().__init__()
        self.run, self.config, self.engine = session.run, session.shapes, session.engine
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map images (b, c, h, w) to float32 logits (b, classes); a batch is split into those that the file takes.

        Raises ``UsageError`` for images that the file does not take, ``MpvitError`` if the engine fails.
        """
        self.config.require(images.shape)
        array = np.ascontiguousarray(images.detach().float().cpu().numpy())
        batch = self.config.batch
        if batch in (None, len(array)):
            return torch.from_numpy(self.run(array))
        missing = -len(array) % batch
        padded = np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
        logits = [self.run(padded[first : first + batch]) for first in range(0, len(padded), batch)]
        return torch.from_numpy(np.concatenate(logits)[: len(array)])


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """An exported file: its network and its metadata. ``config`` is None if another program wrote the file."""

    network: ExportedNetwork
    config: ModelConfig | None = None
    metadata: Metadata = NO_METADATA
    dtype: str = "float32"


def export_metadata(config: ModelConfig, metadata: Metadata, options: ExportOptions) -> dict[str, str]:
    """Return the text that an exported file holds: the metadata of a weights file, and the options of the export."""
    kept = {name: value for name, value in asdict(options).items() if name not in ("batch", "size")}
    return {"mpvit.config": json.dumps(asdict(config)), **metadata.to_text(), "mpvit.export": json.dumps(kept)}


def open_exported(path: Path) -> ExportedFile:
    """Load an exported file into its engine, with as many threads as torch has.

    Raises ``WeightsError`` if the file is damaged or not a classifier, ``MpvitError`` if its engine is not installed.
    """
    suffix = path.suffix.lower()
    target = get_target(SUFFIXES[suffix])
    files = {each: _read(path if each == suffix else path.with_suffix(each), path) for each in target.suffixes}
    try:
        session = target.open(files, torch.get_num_threads())
    except MpvitError as error:
        raise WeightsError(f"cannot use {str(path)!r}: {error}", hint=error.hint) from None
    if "mpvit.config" not in session.metadata:
        return ExportedFile(ExportedNetwork(session))
    try:
        config = config_from_dict(json.loads(session.metadata["mpvit.config"]))
        dtype = str(json.loads(session.metadata["mpvit.export"])["dtype"])
        metadata = read_metadata(session.metadata)
    except (ValueError, TypeError, KeyError, MpvitError) as error:
        raise WeightsError(f"{path} carries metadata that cannot be read: {first_line(error)}") from None
    shapes = session.shapes
    if (config.in_channels, config.num_classes or config.stages[-1].dim) != (shapes.in_channels, shapes.num_classes):
        raise WeightsError(
            f"{path} is damaged: its network takes {shapes.in_channels} channels to {shapes.num_classes} classes, its "
            f"configuration {config.in_channels} to {config.num_classes}"
        )
    return ExportedFile(ExportedNetwork(session), config, metadata, dtype)


def _read(part: Path, path: Path) -> bytes:
    try:
        return part.read_bytes()
    except OSError as error:
        owner = f", which belongs to {path.name}" if part != path else ""
        raise WeightsError(f"cannot read {str(part)!r}{owner}: {file_reason(error)}") from None

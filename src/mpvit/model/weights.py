"""Weights files: this project's safetensors files, and checkpoints in the published layout.

Only tensors, containers and ``argparse.Namespace`` are unpickled: the published checkpoints hold their arguments.
"""

import argparse
import io
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mpvit.architecture.config import ALTERNATIVES, ModelConfig, config_from_dict
from mpvit.architecture.published import is_published, published_names
from mpvit.errors import MpvitError, UsageError, WeightsError, file_reason, first_line
from mpvit.files import write_atomically
from mpvit.model.metadata import NO_METADATA, Metadata, read_metadata
from mpvit.model.network import MPViT

MAX_NAMED = 6
"""Maximum number of tensors that an error names for each complaint."""

_TORCH_FILES = (b"PK", b"\x80")
"""First bytes of the files that ``torch.save`` writes: a zip archive, or a pickle in old versions."""

_COPY_AGAIN = "copy or download the file again"


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """The content of a weights file; ``config`` and ``metadata`` are known only if the file holds them."""

    path: Path
    tensors: dict[str, Tensor]
    config: ModelConfig | None = None
    metadata: Metadata = NO_METADATA


class ConfiguredModule(Protocol):
    """A torch module that is built from a configuration: a classifier, a backbone or a segmenter."""

    @property
    def config(self) -> ModelConfig:
        """Configuration of the classifier or backbone."""

    def state_dict(self) -> dict[str, Any]:
        """Return its tensors by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:  # noqa: ANN401 - torch's own
        """Copy tensors into it."""


def load_weights(model: MPViT, path: str | Path) -> None:
    """Load a safetensors file of this project, or a checkpoint in the published layout, into ``model``.

    Every tensor must be present and fit, and the copies of a shared tensor must be equal; only ``num_batches_tracked`` may be
    missing. Raises ``WeightsError`` naming the tensors that do not fit, and leaves the model unchanged.
    """
    content = read_weights(path)
    require_classifier(content)
    load_into(model, content)


def require_classifier(content: WeightsFile) -> None:
    """Raise ``WeightsError`` if a file holds a segmenter."""
    if task := content.metadata.task:
        raise WeightsError(
            f"{content.path} holds a segmenter, {task}: must be a classifier",
            hint="mpvit predict and mpvit eval take segmenters; mpvit weights inspect describes the file",
        )


def read_task(path: Path) -> str | None:
    """Return the task in a file's metadata, None if there is none or the file is damaged; its tensors are not read.

    Raises ``WeightsError`` if there is no file to read.
    """
    if not _is_safetensors(path):
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return read_metadata(file.metadata() or {}).task
    except (safetensors.SafetensorError, OSError, WeightsError):  # ``read_weights`` raises it
        return None


def read_weights(path: str | Path) -> WeightsFile:
    """Read a weights file, whose content shows its layout; raise ``WeightsError`` if it is damaged."""
    path = Path(path)
    return _read_safetensors(path) if _is_safetensors(path) else _read_checkpoint(path)


def _is_safetensors(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read weights {str(path)!r}: {file_reason(error)}") from None


def load_into(model: ConfiguredModule, weights: WeightsFile) -> None:
    """Copy ``weights`` into ``model``, all or none; see ``load_weights``."""
    if weights.config and replace(weights.config, drop_path=model.config.drop_path) != model.config:
        raise WeightsError(
            f"{weights.path} was saved from another configuration: {_first_difference(weights.config, model.config)}",
            hint="build the model from the configuration inside the file",
        )
    expected = model.state_dict()
    published = any(is_published(name) for name in weights.tensors)
    names = {name: published_names(name, model.config) if published else (name,) for name in expected}
    if complaints := _complaints(expected, names, weights.tensors):
        raise WeightsError(
            f"{weights.path} does not fit the network: {'; '.join(map(_described, complaints, complaints.values()))}",
            hint=_advice(complaints, model.config, published=published),
        )
    model.load_state_dict({name: weights.tensors.get(aliases[0], expected[name]) for name, aliases in names.items()})


def with_classes_of(weights: WeightsFile, config: ModelConfig) -> ModelConfig:
    """Return ``config`` with the number of classes of the file's classifier; 0 if the file has none."""
    head = next((weights.tensors[name] for name in ("cls_head.cls.bias", "head.bias") if name in weights.tensors), None)
    return replace(config, num_classes=len(head) if isinstance(head, Tensor) and head.ndim == 1 else 0)


def save_weights(
    model: ConfiguredModule,
    path: str | Path,
    *,
    layout: str = "project",
    classes: Sequence[str] | None = None,
    metadata: Metadata = NO_METADATA,
) -> None:
    """Write the model's weights to ``path``, completely or not at all.

    Layout ``project`` is a safetensors file that holds the configuration, the names of the ``classes`` by index, and further
    ``metadata``. Layout ``published`` is the authors' checkpoint, ``{"model": tensors}``, with every alias.
    Raises ``UsageError`` for another layout or a wrong number of classes, ``MpvitError`` if the file cannot be written.
    """
    if classes is not None:
        metadata = replace(metadata, classes=tuple(classes))
    if metadata.classes is not None and metadata.task is None and len(metadata.classes) != model.config.num_classes:
        raise UsageError(f"{len(metadata.classes)} class names: the network has {model.config.num_classes} classes")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if layout == "project":
        text = {"format": "pt", "mpvit.config": json.dumps(asdict(model.config)), **metadata.to_text()}
        data = _sorted_metadata(safetensors.torch.save(tensors, text))
    elif layout == "published":
        if metadata.task:
            raise UsageError(f"layout = 'published': must be 'project' for a segmenter, {metadata.task}")
        renamed = {alias: t for name, t in tensors.items() for alias in published_names(name, model.config)}
        buffer = io.BytesIO()
        torch.save({"model": renamed}, buffer)
        data = buffer.getvalue()
    else:
        raise UsageError(f"layout = {layout!r}: must be 'project' or 'published'")
    write_atomically(Path(path), data)


def _sorted_metadata(data: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted, which the library does not do: equal weights give equal bytes.

    The file is the length of the header (8 bytes), the header in JSON, padded with blanks to a multiple of 8, and the tensors.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        metadata = read_metadata(text)
        config = config_from_dict(json.loads(text["mpvit.config"])) if "mpvit.config" in text else None
    except safetensors.SafetensorError:
        raise WeightsError(f"{path} is damaged: its header or its tensors are incomplete", hint=_COPY_AGAIN) from None
    except (OSError, WeightsError) as error:
        raise WeightsError(f"{path} is damaged: {first_line(error)}", hint=_COPY_AGAIN) from None
    except (ValueError, TypeError, MpvitError) as error:
        raise WeightsError(f"{path} carries a configuration that cannot be read: {first_line(error)}") from None
    return WeightsFile(path, tensors, config, metadata)


def _read_checkpoint(path: Path) -> WeightsFile:
    with path.open("rb") as file:
        start = file.read(2)
    if start and not start.startswith(_TORCH_FILES):
        message = f"{path} is not a weights file: must be a safetensors file, or a checkpoint that torch.save wrote"
        raise WeightsError(message, hint="name another file; if it was one, copy or download the file again")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - an unpickler raises any class for damaged bytes
        if forbidden := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} holds more than tensors: {forbidden[1]}",
                hint="only tensors, containers and argparse.Namespace are unpickled; anything else could run code",
            ) from None
        reason = "torch.load cannot read it" if start else "it is empty"
        raise WeightsError(f"{path} is damaged: {reason}", hint=_COPY_AGAIN) from None
    tensors = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(tensors, Mapping) or not tensors:
        raise WeightsError(f"{path} holds no tensors under 'model'", hint="a checkpoint is {'model': {name: tensor}}")
    return WeightsFile(path, dict(tensors))


def _complaints(
    expected: Mapping[str, Tensor], names: Mapping[str, Sequence[str]], found: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return the tensors that do not fit the network, by complaint."""
    known = {alias for aliases in names.values() for alias in aliases}
    complaints: dict[str, list[str]] = {
        "missing": [],
        "left over": [str(name) for name in found if name not in known],
        "misshapen": [],
        "disagreeing": [],
    }
    for name, alias in ((name, alias) for name, aliases in names.items() for alias in aliases):
        tensor, first, shape = found.get(alias), found.get(names[name][0]), expected[name].shape
        if tensor is None:
            if not name.endswith("num_batches_tracked"):
                complaints["missing"].append(alias)
        elif not isinstance(tensor, Tensor) or tensor.shape != shape:
            kind = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            complaints["misshapen"].append(f"{alias}: {kind}, must be {list(shape)}")
        elif isinstance(first, Tensor) and not torch.equal(tensor, first):
            complaints["disagreeing"].append(f"{alias} differs from {names[name][0]}")
    return {complaint: tensors for complaint, tensors in complaints.items() if tensors}


def _described(complaint: str, tensors: Sequence[str]) -> str:
    more = f" and {len(tensors) - MAX_NAMED} more" if len(tensors) > MAX_NAMED else ""
    return f"{len(tensors)} {complaint} ({', '.join(tensors[:MAX_NAMED])}{more})"


def _advice(complaints: Mapping[str, Sequence[str]], config: ModelConfig, *, published: bool) -> str:
    missing = complaints.get("missing", ())
    if missing and "misshapen" not in complaints and all(name.startswith(("cls_head.", "head.")) for name in missing):
        return "a file for dense prediction has no classifier: build the model with num_classes=0"
    for index, stage in enumerate(config.stages if published else ()):
        for name, (own, _) in ALTERNATIVES.items():
            if (value := getattr(stage, name)) != own:
                return f"a published checkpoint fits the published network, not one with stages[{index}].{name} = {value!r}"
    if "misshapen" in complaints or "left over" in complaints:
        return "are they weights of another variant or number of classes?"
    return "the model is unchanged"


def _first_difference(saved: ModelConfig, wanted: ModelConfig) -> str:
    if len(saved.stages) != len(wanted.stages):
        return f"{len(saved.stages)} stages, the model has {len(wanted.stages)}"
    pairs = [("", asdict(saved), asdict(wanted))]
    pairs += [(f"stages[{i}].", asdict(a), asdict(b)) for i, (a, b) in enumerate(zip(saved.stages, wanted.stages, strict=True))]
    return next(
        f"{where}{name} = {old[name]!r}, the model has {new[name]!r}"
        for where, old, new in pairs
        for name in old
        if name not in ("stages", "drop_path") and old[name] != new[name]
    )

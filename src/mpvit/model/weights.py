"""Reading and writing weights: this project's safetensors files, and the authors' checkpoints both ways.

Nothing is unpickled but tensors, containers and ``argparse.Namespace`` (the published files hold their arguments).
"""

import argparse
import io
import json
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mpvit.config import ALTERNATIVES, ModelConfig, config_from_dict
from mpvit.errors import MpvitError, UsageError, WeightsError, file_reason, first_line
from mpvit.files import write_atomically
from mpvit.model.card import NO_CARD, Card, read_card
from mpvit.model.network import MPViT
from mpvit.published import is_published, published_names

_SHOWN = 6
"""How many tensors of each complaint an error names."""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a weights file holds; ``config`` and what is on the ``card`` only where the file carries them."""

    path: Path
    tensors: dict[str, Tensor]
    config: ModelConfig | None = None
    card: Card = NO_CARD


@dataclass(slots=True)
class _Misfit:
    """The tensors of a file that do not fit a network, by complaint."""

    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    disagreeing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        complaints = []
        for name in ("missing", "left_over", "misshapen", "disagreeing"):
            tensors = getattr(self, name)
            if tensors:
                more = f" and {len(tensors) - _SHOWN} more" if len(tensors) > _SHOWN else ""
                complaints.append(f"{len(tensors)} {name.replace('_', ' ')} ({', '.join(tensors[:_SHOWN])}{more})")
        return "; ".join(complaints)


class Saved(Protocol):
    """A torch network that weights are of: a classifier or backbone, or a segmenter on one."""

    @property
    def config(self) -> ModelConfig:
        """What the classifier or backbone is made of."""

    def state_dict(self) -> dict[str, Any]:
        """Return its tensors by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:  # noqa: ANN401 - torch's own
        """Take them over."""


def load_weights(model: MPViT, path: str | Path) -> None:
    """Load ``path`` into ``model``: a safetensors file of this project, or a checkpoint of the published layout.

    Every tensor must be there and fit, and the copies of a shared one be equal; ``num_batches_tracked`` alone may be
    absent. Raises ``WeightsError`` naming the tensors that do not, and leaves the model as it was.
    """
    content = read_weights(path)
    require_classifier(content)
    fill(model, content)


def require_classifier(content: WeightsFile) -> None:
    """Raise ``WeightsError`` where a file holds a segmenter, which names the classes of pixels."""
    if task := content.card.task:
        raise WeightsError(
            f"{content.path} holds a segmenter, {task}: must be a classifier",
            hint="mpvit predict and mpvit eval take segmenters; mpvit weights inspect says what the file is",
        )


def read_task(path: Path) -> str | None:
    """Return the task in a file's card, None where it has none or is damaged; its tensors are not read.

    Raises ``WeightsError`` where there is no file to read.
    """
    if not _is_safetensors(path):
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return read_card(file.metadata() or {}).task
    except (safetensors.SafetensorError, OSError, WeightsError):  # reading all of it says so
        return None


def read_weights(path: str | Path) -> WeightsFile:
    """Read a weights file of either layout, told apart by its content; raise ``WeightsError`` where it is damaged."""
    path = Path(path)
    return _read_safetensors(path) if _is_safetensors(path) else _read_checkpoint(path)


def _is_safetensors(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read weights {str(path)!r}: {file_reason(error)}") from None


def fill(model: Saved, weights: WeightsFile) -> None:
    """Copy ``weights`` into ``model``, all or nothing; see ``load_weights``."""
    if weights.config and replace(weights.config, drop_path=model.config.drop_path) != model.config:
        raise WeightsError(
            f"{weights.path} was saved from another configuration: {_first_difference(weights.config, model.config)}",
            hint="build the model from the configuration inside the file",
        )
    wanted = model.state_dict()
    published = any(is_published(name) for name in weights.tensors)
    names = {name: published_names(name, model.config) if published else (name,) for name in wanted}
    misfit = _compare(wanted, names, weights.tensors)
    if complaint := str(misfit):
        raise WeightsError(
            f"{weights.path} does not fit the network: {complaint}", hint=_advice(misfit, model.config, published=published)
        )
    found = {name: weights.tensors.get(aliases[0], wanted[name]) for name, aliases in names.items()}
    model.load_state_dict(found)


def with_classes_of(weights: WeightsFile, config: ModelConfig) -> ModelConfig:
    """Return ``config`` with as many classes as the file's classifier has; 0 where it has none."""
    head = next((weights.tensors[name] for name in ("cls_head.cls.bias", "head.bias") if name in weights.tensors), None)
    return replace(config, num_classes=len(head) if isinstance(head, Tensor) and head.ndim == 1 else 0)


def save_weights(
    model: Saved, path: str | Path, *, layout: str = "project", classes: Sequence[str] | None = None, card: Card = NO_CARD
) -> None:
    """Write the model's weights to ``path``, whole or not at all.

    Layout ``project`` is a safetensors file with the configuration inside and, where given, the names of the classes in
    index order and what else is on a ``card``. Layout ``published`` is the authors' checkpoint, ``{"model": tensors}``,
    each alias included.
    Raises ``UsageError`` for another layout or a wrong number of classes, ``MpvitError`` where it cannot be written.
    """
    if classes is not None:
        card = replace(card, classes=tuple(classes))
    if card.classes is not None and card.task is None and len(card.classes) != model.config.num_classes:
        raise UsageError(f"{len(card.classes)} class names: the network has {model.config.num_classes} classes")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if layout == "project":
        metadata = {"format": "pt", "mpvit.config": json.dumps(asdict(model.config)), **card.as_metadata()}
        data = _ordered(safetensors.torch.save(tensors, metadata))
    elif layout == "published":
        if card.task:
            raise UsageError(f"layout = 'published': must be 'project', a segmenter ({card.task}) has no published layout")
        renamed = {alias: t for name, t in tensors.items() for alias in published_names(name, model.config)}
        buffer = io.BytesIO()
        torch.save({"model": renamed}, buffer)
        data = buffer.getvalue()
    else:
        raise UsageError(f"layout = {layout!r}: must be 'project' or 'published'")
    write_atomically(Path(path), data)


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with its metadata in order, which the library has not: the same weights are the same bytes.

    Its layout is eight bytes with the length of a header in JSON, padded with blanks to a multiple of eight, and the tensors.
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
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (safetensors.SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged: {first_line(error)}", hint="copy or download the file again") from None
    try:
        config = config_from_dict(json.loads(metadata["mpvit.config"])) if "mpvit.config" in metadata else None
    except (ValueError, TypeError, MpvitError) as error:
        raise WeightsError(f"{path} carries a configuration that cannot be read: {first_line(error)}") from None
    try:
        return WeightsFile(path, tensors, config, read_card(metadata))
    except WeightsError as error:
        raise WeightsError(f"{path} is damaged: {error}") from None


def _read_checkpoint(path: Path) -> WeightsFile:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is no weights file, or holds more than tensors: {first_line(error)}",
            hint="only tensors, containers and argparse.Namespace are unpickled; anything else could run code",
        ) from None
    except Exception as error:  # noqa: BLE001 - on damaged bytes an unpickler raises anything
        raise WeightsError(f"{path} is damaged: {first_line(error)}", hint="copy or download the file again") from None
    tensors = content.get("model", content) if isinstance(content, Mapping) else content
    if not isinstance(tensors, Mapping) or not tensors:
        raise WeightsError(f"{path} holds no tensors under 'model'", hint="a checkpoint is {'model': {name: tensor}}")
    return WeightsFile(path, dict(tensors))


def _compare(wanted: Mapping[str, Tensor], names: Mapping[str, Sequence[str]], found: Mapping[str, Any]) -> _Misfit:
    misfit = _Misfit()
    known = {alias for aliases in names.values() for alias in aliases}
    misfit.left_over = [str(name) for name in found if name not in known]
    for own, aliases in names.items():
        first = found.get(aliases[0])
        for alias in aliases:
            tensor = found.get(alias)
            if tensor is None:
                if not own.endswith("num_batches_tracked"):
                    misfit.missing.append(alias)
            elif not isinstance(tensor, Tensor) or tensor.shape != wanted[own].shape:
                shape = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
                misfit.misshapen.append(f"{alias}: {shape}, must be {list(wanted[own].shape)}")
            elif isinstance(first, Tensor) and not torch.equal(tensor, first):
                misfit.disagreeing.append(f"{alias} differs from {aliases[0]}")
    return misfit


def _advice(misfit: _Misfit, config: ModelConfig, *, published: bool) -> str:
    heads = ("cls_head.", "head.")
    if misfit.missing and not misfit.misshapen and all(name.startswith(heads) for name in misfit.missing):
        return "a dense-prediction file has no classifier: build the model with num_classes=0"
    if published and (alternative := _first_alternative(config)):
        return f"a published checkpoint fits the published network, not one with {alternative}"
    if misfit.misshapen or misfit.left_over:
        return "is it the weights of another variant or number of classes?"
    return "the model was left as it was"


def _first_alternative(config: ModelConfig) -> str:
    return next(
        (
            f"stages[{index}].{name} = {value!r}"
            for index, stage in enumerate(config.stages)
            for name, (own, _) in ALTERNATIVES.items()
            if (value := getattr(stage, name)) != own
        ),
        "",
    )


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

"""Configuration of a Multi-Path Vision Transformer as plain data, and its TOML file.

The paper (Lee et al., CVPR 2022, arXiv:2112.11010) counts the stem as stage 1, so ``ModelConfig.stages[0]`` is its stage 2.
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from mpvit.attention import get_kind
from mpvit.attention.factorized_crpe import PUBLISHED_WINDOWS, Windows, split_heads
from mpvit.errors import UsageError, file_reason, unknown_name
from mpvit.files import write_atomically

TRAINED_SIZE = 224
"""Side of the images on which the published networks were trained, in pixels."""

MAX_COUNT = 10**6
"""Upper bound of channels, heads, classes and regions."""

MAX_DEPTH = 1000
"""Upper bound of paths, layers and mlp_ratio."""

FIRST_STAGE = 2
"""Number of ``ModelConfig.stages[0]`` in the paper."""

STEM_STRIDE = 4
"""Stride of the stem, in pixels."""

ALTERNATIVES: dict[str, tuple[bool, bool] | tuple[str, str]] = {
    "local": (True, False),
    "cpe": (True, False),
    "fusion": ("concat", "sum"),
    "patch_embed": ("series", "parallel"),
}
"""Allowed values of fields of a stage, the published network's value first."""

_HINT = "see docs/configurations.md"


def _require(condition: bool, field: str, value: object, rule: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of more than 20 digits"
        raise UsageError(f"{field} = {text}: {rule}", hint=_HINT)


def _require_whole(config: object, field: str, low: int, high: int) -> None:
    value = getattr(config, field)
    _require(_is_whole(value, low, high), field, value, f"must be a whole number of at least {low} and at most {high}")


def _is_whole(value: object, low: int, high: int = MAX_COUNT) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**9 and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class StageConfig:
    """One transformer stage of parallel paths. The defaults are those of the published networks.

    Raises ``UsageError`` with the field, the value and the rule.

    Attributes:
        paths: number of paths.
        layers: number of transformer layers of each path.
        dim: channels of each path.
        heads: attention heads; must divide ``dim``.
        mlp_ratio: hidden channels of the MLP divided by ``dim``.
        crpe_windows: pairs (window side, share of the heads) of the convolutional relative position encoding; empty without
            it. The published windows of 3, 5 and 7 have 2, 3 and 3 of 8 heads; other numbers of heads are split alike.
        attention: kind of attention (``mpvit.attention.get_kind``).
        local: whether the stage has the convolutional branch.
        cpe: whether the paths have the convolutional position encoding.
        fusion: how the branch and the paths are joined: ``concat`` or ``sum``.
        patch_embed: ``series`` if each path embeds the embedding of the path before it; ``parallel`` if each path embeds the
            input of the stage, with a window that is wider by 2 for each further path.
    """

    paths: int
    layers: int
    dim: int
    heads: int
    mlp_ratio: float
    crpe_windows: Windows = PUBLISHED_WINDOWS
    attention: str = "factorized"
    local: bool = True
    cpe: bool = True
    fusion: str = "concat"
    patch_embed: str = "series"

    def __post_init__(self) -> None:
        """Check every field."""
        for name, high in (("paths", MAX_DEPTH), ("layers", MAX_DEPTH), ("dim", MAX_COUNT), ("heads", MAX_COUNT)):
            _require_whole(self, name, 1, high)
        _require(self.dim % self.heads == 0, "dim", self.dim, f"must be divisible by heads = {self.heads}")
        ratio, windows = self.mlp_ratio, self.crpe_windows
        in_range = _is_number(ratio) and 0 < ratio <= MAX_DEPTH
        _require(in_range, "mlp_ratio", ratio, f"must be a number above 0 and at most {MAX_DEPTH}")
        whole = float(ratio * self.dim).is_integer()
        _require(whole, "mlp_ratio", ratio, f"times dim = {self.dim} must be a whole number of hidden channels")
        if float(ratio).is_integer():
            object.__setattr__(self, "mlp_ratio", int(ratio))
        pairs = isinstance(windows, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in windows)  # noqa: PLR2004
        valid = pairs and all(_is_whole(side, 1) and side % 2 == 1 and _is_whole(share, 1) for side, share in windows)
        _require(valid, "crpe_windows", windows, "must be pairs (odd window, share of the heads of at least 1)")
        _require(isinstance(self.attention, str), "attention", self.attention, "must be a name")
        if self.attention == "factorized_crpe":
            _require(len(windows) > 0, "attention", self.attention, "must have crpe_windows")
            object.__setattr__(self, "attention", "factorized")
        get_kind(self.attention)
        for name, choices in ALTERNATIVES.items():
            value = getattr(self, name)
            allowed = type(value) is type(choices[0]) and value in choices
            _require(allowed, name, value, f"must be {' or '.join(map(repr, choices))}")

    @property
    def head_dim(self) -> int:
        """Channels per head, d = C / h."""
        return self.dim // self.heads

    @property
    def hidden_dim(self) -> int:
        """Channels of the MLP's hidden layer."""
        return int(self.mlp_ratio * self.dim)

    @property
    def joined_dim(self) -> int:
        """Input channels of the fusion."""
        return self.dim * (self.paths + self.local) if self.fusion == "concat" else self.dim

    def embedding(self, path: int, stride: int) -> tuple[int, int]:
        """Return the (kernel, stride) of the patch embedding of ``path``, counted from 0, in a stage of this ``stride``."""
        if self.patch_embed == "parallel":
            return 3 + 2 * path, stride
        return 3, 1 if path else stride

    def head_windows(self) -> Windows:
        """Return pairs (window side, heads) of the relative position encoding, whose heads sum to ``heads``."""
        return split_heads(self.heads, self.crpe_windows)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A whole network. Stages are counted from 0. Raises ``UsageError`` with the field, the value and the rule.

    Attributes:
        stages: configurations of the stages.
        in_channels: channels of the images.
        num_classes: number of classes; 0 for a network without classifier.
        drop_path: rate of stochastic depth of the last layer, in training.
    """

    stages: tuple[StageConfig, ...]
    in_channels: int = 3
    num_classes: int = 1000
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Check every field; each stage has checked itself."""
        stages = isinstance(self.stages, tuple) and all(isinstance(stage, StageConfig) for stage in self.stages)
        _require(stages and len(self.stages) > 0, "stages", self.stages, "must be a tuple of at least one StageConfig")
        first = self.stages[0].dim
        _require(first % 2 == 0, "stages[0].dim", first, "must be even: the stem's first convolution has half the channels")
        _require_whole(self, "in_channels", 1, MAX_COUNT)
        _require_whole(self, "num_classes", 0, MAX_COUNT)
        in_range = _is_number(self.drop_path) and 0 <= self.drop_path < 1
        _require(in_range, "drop_path", self.drop_path, "must be a number in [0, 1)")

    def next_dim(self, stage: int) -> int:
        """Return the output channels of a stage: those of the next stage, or its own for the last."""
        return self.stages[min(stage + 1, len(self.stages) - 1)].dim

    def stride(self, stage: int) -> int:
        """Return the stride of a stage in positions of its input: 1 for the first, which follows the stem, and 2 for others."""
        return 1 if stage == 0 else 2

    def reduction(self, stage: int) -> int:
        """Return the stride of a stage's feature map in pixels of the image: 4, 8, 16, ..."""
        return STEM_STRIDE * math.prod(map(self.stride, range(stage + 1)))

    def with_attention(self, kind: str) -> Self:
        """Return the same network with another kind of attention in every layer, and the same position encodings."""
        return replace(self, stages=tuple(replace(stage, attention=kind) for stage in self.stages))

    def drop_path_rates(self) -> list[float]:
        """Return the rate of each layer in order, from 0 linearly to ``drop_path``; the paths of a stage have equal rates."""
        layers = sum(stage.layers for stage in self.stages)
        return [self.drop_path * index / max(layers - 1, 1) for index in range(layers)]

    def trained_grid(self, stage: int) -> tuple[int, int]:
        """Return the (height, width) of a stage's tokens for images of ``TRAINED_SIZE``."""
        side = -(-TRAINED_SIZE // self.reduction(stage))
        return side, side


def config_from_dict(data: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration with the fields in ``data``, whose stages are a list of mappings.

    Raises ``UsageError`` for an unknown or missing field, and a wrong value.
    """
    values = _known_fields(ModelConfig, data, "the configuration")
    tables: Any = values["stages"]
    _require(isinstance(tables, list | tuple), "stages", tables, "must be a list of [[stages]] tables")
    return ModelConfig(**{**values, "stages": tuple(_stage_from_dict(i, table) for i, table in enumerate(tables))})


def _stage_from_dict(index: int, table: Any) -> StageConfig:  # noqa: ANN401 - any content of a file
    where = f"stages[{index}]"
    _require(isinstance(table, Mapping), where, table, "must be a table")
    values = _known_fields(StageConfig, table, where)
    if isinstance(windows := values.get("crpe_windows"), list):
        values["crpe_windows"] = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in windows)
    try:
        return StageConfig(**values)
    except UsageError as error:
        raise UsageError(f"{where}.{error}", hint=error.hint) from None


def _known_fields(kind: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    required = [field.name for field in fields(kind) if field.default is MISSING]
    for key in data:
        if key not in names:
            raise unknown_name(f"field of {where}", key, names)
    for name in required:
        if name not in data:
            raise UsageError(f"{where} lacks {name!r}", hint=f"it needs {', '.join(required)}")
    return dict(data)


def load_config(path: Path) -> ModelConfig:
    """Read a configuration from a TOML file; raise ``UsageError`` with the file and what is wrong in it."""
    try:
        return config_from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {file_reason(error)}", hint=f"give a TOML file, {_HINT}") from None
    except RecursionError:
        raise UsageError(f"{path}: its brackets are nested too deep", hint=_HINT) from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}", hint=_HINT) from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}", hint=error.hint) from None


def config_to_toml(config: ModelConfig) -> str:
    """Return the TOML file from which ``load_config`` reads ``config``; fields that have their defaults are left out."""
    tables = [_toml_lines(config), *(["[[stages]]", *_toml_lines(stage)] for stage in config.stages)]
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in tables if lines)


def _toml_lines(part: ModelConfig | StageConfig) -> list[str]:
    values = [(field.name, getattr(part, field.name)) for field in fields(part) if getattr(part, field.name) != field.default]
    return [f"{name} = {json.dumps(value)}" for name, value in values if name != "stages"]  # these values are also valid TOML


def save_config(config: ModelConfig, path: Path) -> None:
    """Write ``config`` to a TOML file; raise ``MpvitError`` if it cannot be written."""
    write_atomically(path, config_to_toml(config).encode())

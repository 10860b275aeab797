"""What a Multi-Path Vision Transformer is made of, as plain data: its configuration, its published variants, its TOML form.

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
"""The side in pixels of the images that the published networks were trained on."""

MOST = 10**6
"""The largest width or count of classes that is no slip of the hand."""

DEEPEST = 1000
"""The most paths, layers and MLP ratio, likewise."""

FIRST_STAGE = 2
"""The paper's number of ``ModelConfig.stages[0]``."""

ALTERNATIVES: dict[str, tuple[bool, bool] | tuple[str, str]] = {
    "local": (True, False),
    "cpe": (True, False),
    "fusion": ("concat", "sum"),
    "patch_embed": ("series", "parallel"),
}
"""What each of these fields of a stage may be, the published network's first."""


def _require(condition: bool, field: str, value: object, rule: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not condition:
        text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a number of more than 20 digits"
        raise UsageError(f"{field} = {text}: {rule}", hint="see docs/configurations.md")


def _is_int(value: object, at_least: int, at_most: int = MOST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 10**9 and math.isfinite(value)


@dataclass(frozen=True, slots=True)
class StageConfig:
    """One transformer stage: ``paths`` parallel paths of ``layers`` layers, each ``dim`` channels wide.

    ``mlp_ratio`` times ``dim`` is the width of the MLP's hidden layer. ``crpe_windows`` are pairs (window, share) of the
    convolutional relative position encoding: the published 2, 3 and 3 of 8 heads see 3x3, 5x5 and 7x7 windows, and any
    other head count is split in the same proportion; without windows there is none.

    The published network has the defaults of what follows. ``local`` is the convolutional branch, ``cpe`` the paths'
    convolutional position encoding; ``fusion`` joins the branch and the paths by concatenation or as their ``sum``.
    ``patch_embed`` is ``series`` where each path embeds what the one before has embedded, ``parallel`` where each embeds the
    stage's input, with a window that is wider by 2. Raises ``UsageError`` naming the field, the value and the rule.
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
        """Check every field once."""
        for name, most in (("paths", DEEPEST), ("layers", DEEPEST), ("dim", MOST), ("heads", MOST)):
            value = getattr(self, name)
            _require(_is_int(value, 1, most), name, value, f"must be a whole number of at least 1 and at most {most}")
        _require(self.dim % self.heads == 0, "dim", self.dim, f"must be divisible by heads = {self.heads}")
        _require(
            _is_number(self.mlp_ratio) and 0 < self.mlp_ratio <= DEEPEST,
            "mlp_ratio",
            self.mlp_ratio,
            f"must be a number above 0 and at most {DEEPEST}",
        )
        _require(
            float(self.mlp_ratio * self.dim).is_integer(),
            "mlp_ratio",
            self.mlp_ratio,
            f"times dim = {self.dim} must be a whole number of hidden channels",
        )
        if float(self.mlp_ratio).is_integer():
            object.__setattr__(self, "mlp_ratio", int(self.mlp_ratio))
        windows = self.crpe_windows
        pairs = isinstance(windows, tuple) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in windows)  # noqa: PLR2004
        _require(
            pairs and all(_is_int(w, 1) and w % 2 == 1 and _is_int(share, 1) for w, share in windows),
            "crpe_windows",
            windows,
            "must be pairs (odd window, share of the heads of at least 1)",
        )
        _require(isinstance(self.attention, str), "attention", self.attention, "must be a name")
        if self.attention == "factorized_crpe":
            _require(len(windows) > 0, "attention", self.attention, "must have crpe_windows")
            object.__setattr__(self, "attention", "factorized")
        get_kind(self.attention)
        for name, choices in ALTERNATIVES.items():
            value = getattr(self, name)
            fits = type(value) is type(choices[0]) and value in choices
            _require(fits, name, value, f"must be {' or '.join(map(repr, choices))}")

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
        """Channels that the fusion takes."""
        return self.dim * (self.paths + self.local) if self.fusion == "concat" else self.dim

    def embedding(self, path: int, stride: int) -> tuple[int, int]:
        """Return the (kernel, stride) of a path's patch embedding, ``path`` 0 the first, in a stage of stride ``stride``."""
        if self.patch_embed == "parallel":
            return 3 + 2 * path, stride
        return 3, 1 if path else stride

    def patch_window(self, path: int, stride: int) -> int:
        """Return the side of what a patch of ``path`` covers of the stage's input, in its positions; as ``embedding``.

        In series each 3x3 window behind the first reaches one embedded position further to each side, ``stride`` apart.
        """
        return 3 + 2 * path * (stride if self.patch_embed == "series" else 1)

    def head_windows(self) -> Windows:
        """Return pairs (window, heads) of the relative position encoding, whose heads sum to ``heads``."""
        return split_heads(self.heads, self.crpe_windows)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A whole network. ``num_classes`` 0 leaves out the classifier; ``drop_path`` is the last layer's rate in training.

    Raises ``UsageError`` naming the field, the value and the rule.
    """

    stages: tuple[StageConfig, ...]
    in_channels: int = 3
    num_classes: int = 1000
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        """Check every field once; each stage has checked itself."""
        stages = isinstance(self.stages, tuple) and all(isinstance(stage, StageConfig) for stage in self.stages)
        _require(stages and len(self.stages) > 0, "stages", self.stages, "must be a tuple of at least one StageConfig")
        first = self.stages[0].dim
        _require(first % 2 == 0, "stages[0].dim", first, "must be even: the stem's first convolution has half the channels")
        _require(
            _is_int(self.in_channels, 1),
            "in_channels",
            self.in_channels,
            "must be a whole number of at least 1 and at most 1000000",
        )
        _require(
            _is_int(self.num_classes, 0),
            "num_classes",
            self.num_classes,
            "must be a whole number of at least 0 and at most 1000000",
        )
        _require(
            _is_number(self.drop_path) and 0 <= self.drop_path < 1,
            "drop_path",
            self.drop_path,
            "must be a number in [0, 1)",
        )

    def next_dim(self, stage: int) -> int:
        """Return the channels that stage ``stage`` (0 the first) hands on: the next stage's width, or the last's own."""
        return self.stages[min(stage + 1, len(self.stages) - 1)].dim

    def stride(self, stage: int) -> int:
        """Return how far apart stage ``stage`` (0 the first) samples its input: the stem has already taken the first's."""
        return 1 if stage == 0 else 2

    def reduction(self, stage: int) -> int:
        """Return the stride of stage ``stage``'s feature map (0 the first), in pixels of the image: 4, 8, 16, ..."""
        return 4 * 2**stage

    def with_attention(self, kind: str) -> Self:
        """Return the same network with another attention in every layer; its position encodings stay."""
        return replace(self, stages=tuple(replace(stage, attention=kind) for stage in self.stages))

    def drop_path_rates(self) -> list[float]:
        """Return each layer's rate, in order: from 0 linearly to ``drop_path``; the paths of a stage share theirs."""
        layers = sum(stage.layers for stage in self.stages)
        return [self.drop_path * index / max(layers - 1, 1) for index in range(layers)]

    def trained_grid(self, stage: int) -> tuple[int, int]:
        """Return the (height, width) of stage ``stage``'s tokens in training."""
        side = -(-TRAINED_SIZE // self.reduction(stage))
        return side, side


def config_from_dict(data: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration that ``data`` describes: the fields of ``ModelConfig``, its stages as a list of tables."""
    known = _known_fields(ModelConfig, data, "the configuration")
    tables: Any = known["stages"]
    _require(isinstance(tables, list | tuple), "stages", tables, "must be a list of [[stages]] tables")
    return ModelConfig(**{**known, "stages": tuple(_stage_from_dict(i, table) for i, table in enumerate(tables))})


def _stage_from_dict(index: int, table: Any) -> StageConfig:  # noqa: ANN401 - whatever a file held
    where = f"stages[{index}]"
    _require(isinstance(table, Mapping), where, table, "must be a table")
    known = _known_fields(StageConfig, table, where)
    if isinstance(windows := known.get("crpe_windows"), list):
        known["crpe_windows"] = tuple(tuple(pair) if isinstance(pair, list) else pair for pair in windows)
    try:
        return StageConfig(**known)
    except UsageError as error:
        raise UsageError(f"{where}.{error}", hint=error.hint) from None


def _known_fields(kind: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    for key in data:
        if key not in names:
            raise unknown_name(f"field of {where}", key, names)
    required = ["stages"] if kind is ModelConfig else ["paths", "layers", "dim", "heads", "mlp_ratio"]
    for name in required:
        if name not in data:
            raise UsageError(f"{where} lacks {name!r}", hint=f"it needs {', '.join(required)}")
    return dict(data)


def load_config(path: Path) -> ModelConfig:
    """Read a configuration from a TOML file; raise ``UsageError`` naming the file and what is wrong in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {file_reason(error)}", hint="--config takes a TOML file") from None
    except RecursionError:
        raise UsageError(f"{path}: its brackets are nested too deep", hint="see docs/configurations.md") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}", hint="see docs/configurations.md") from None
    try:
        return config_from_dict(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}", hint=error.hint) from None


def config_to_toml(config: ModelConfig) -> str:
    """Return the TOML file that ``load_config`` reads ``config`` from; what has its default is left out."""
    tables = [_toml_lines(config), *(["[[stages]]", *_toml_lines(stage)] for stage in config.stages)]
    return "\n".join("".join(f"{line}\n" for line in lines) for lines in tables if lines)


def _toml_lines(part: ModelConfig | StageConfig) -> list[str]:
    own = {field.name: getattr(part, field.name) for field in fields(part) if field.default is MISSING}
    changed = {f.name: getattr(part, f.name) for f in fields(part) if f.default not in (MISSING, getattr(part, f.name))}
    return [f"{name} = {_toml_value(value)}" for name, value in (own | changed).items() if name != "stages"]


def _toml_value(value: object) -> str:
    """Return a number, truth value, plain string or tuple of those as TOML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    return json.dumps(value)


def save_config(config: ModelConfig, path: Path) -> None:
    """Write ``config`` to a TOML file, whole or not at all; raise ``MpvitError`` where it cannot be written."""
    write_atomically(path, config_to_toml(config).encode())

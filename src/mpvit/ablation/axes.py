"""The axes of an ablation: each is one named edit of a network, in one table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpvit.ablation.knobs import KNOBS, edit_stages, scaled_amounts, with_amounts
from mpvit.architecture.config import ALTERNATIVES, FIRST_STAGE, ModelConfig
from mpvit.attention import KINDS, get_kind
from mpvit.attention.factorized_crpe import PUBLISHED_WINDOWS
from mpvit.errors import UsageError, unknown_name
from mpvit.network import NamedNetwork
from mpvit.units import parse_ratio, parse_whole, times


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One property of a network that an ablation changes.

    Attributes:
        what: description in the help text.
        values: default values.
        parse: text -> value; raises ``UsageError`` for a text that is a value for no network.
        edit: (network, value) -> edited network; raises ``UsageError`` if a constraint of the network forbids the value.
        read: network -> its own value as text.
    """

    what: str
    values: tuple[str, ...]
    parse: Callable[[str], Any]
    edit: Callable[[NamedNetwork, Any], NamedNetwork]
    read: Callable[[NamedNetwork], str]


def get_axis(name: str) -> Axis:
    """Return the axis ``name``; raise ``UsageError`` with the nearest name if there is none."""
    if name not in AXES:
        raise unknown_name("axis", name, AXES)
    return AXES[name]


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _parse_kind(text: str) -> str:
    get_kind(text)
    return text


def _parse_windows(text: str) -> tuple[tuple[int, int], ...]:
    """Read "3/5/7" as windows, each with the published share of the heads; "off" has none."""
    published = dict(PUBLISHED_WINDOWS)
    if text == "off":
        return ()
    windows = [parse_whole(word) for word in text.split("/")]
    if any(window % 2 == 0 for window in windows) or len(set(windows)) < len(windows):
        raise UsageError(f"{text[:40]!r}: must be off, or different odd windows", hint="for example 3/5/7")
    return tuple((window, published.get(window, max(published.values()))) for window in windows)


def _parse_size(text: str) -> tuple[int, int]:
    lengths = [parse_whole(word) for word in text.lower().replace("×", "x").split("x")]
    if len(lengths) > 2:  # noqa: PLR2004 - height and width
        raise UsageError(f"{text[:40]!r}: must be one side, or HEIGHTxWIDTH")
    return lengths[0], lengths[-1]


def _parse_width(text: str) -> float | tuple[int, ...]:
    """Read "0.5x" as a factor, "48" and "48/96/144/192" as channels."""
    return float(parse_ratio(text[:-1])) if text.endswith("x") else tuple(parse_whole(word) for word in text.split("/"))


# ── edits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _stage_axis(
    field: str, what: str, values: tuple[str, ...], parse: Callable[[str], Any], write: Callable[[Any], str] = str
) -> Axis:
    """Return the axis of a field of the stages; "/" joins the values of the stages, one value is that of all stages."""

    def edit(network: NamedNetwork, given: tuple[Any, ...]) -> NamedNetwork:
        config = network.config
        values = _one_each(config, given)
        return replace(network, config=edit_stages(config, lambda stage, value: replace(stage, **{field: value}), values))

    def read(network: NamedNetwork) -> str:
        own = [write(getattr(stage, field)) for stage in network.config.stages]
        return own[0] if len(set(own)) == 1 else "/".join(own)

    return Axis(what=what, values=values, parse=lambda text: tuple(map(parse, text.split("/"))), edit=edit, read=read)


def _one_each(config: ModelConfig, values: tuple[Any, ...]) -> tuple[Any, ...]:
    stages = len(config.stages)
    if len(values) not in (1, stages):
        raise UsageError(f"{len(values)} values: must be one for all stages, or {stages}, one for each")
    return values * stages if len(values) == 1 else values


def _alternative(field: str, what: str) -> Axis:
    """Return the axis of a field of the stages that has two values: on and off, or two words."""
    words = {_word(value): value for value in ALTERNATIVES[field]}

    def parse(text: str) -> bool | str:
        if text not in words:
            raise unknown_name("switch" if "on" in words else field.replace("_", "-"), text, words)
        return words[text]

    return _stage_axis(field, what, tuple(words), parse, _word)


def _word(value: bool | str) -> str:  # noqa: FBT001 - the value of a switch
    return value if isinstance(value, str) else "on" if value else "off"


def _with_windows(network: NamedNetwork, windows: tuple[tuple[int, int], ...]) -> NamedNetwork:
    stages = tuple(replace(stage, crpe_windows=windows) for stage in network.config.stages)
    return replace(network, config=replace(network.config, stages=stages))


def _read_windows(network: NamedNetwork) -> str:
    own = ["/".join(str(window) for window, _ in stage.crpe_windows) or "off" for stage in network.config.stages]
    return own[0] if len(set(own)) == 1 else " ".join(own)


def _with_width(network: NamedNetwork, width: float | tuple[int, ...]) -> NamedNetwork:
    config, knob = network.config, KNOBS["width"]
    channels: Sequence[int]
    if isinstance(width, float):
        channels = scaled_amounts(config, knob, width)
    elif len(width) == 1:
        channels = scaled_amounts(config, knob, width[0] / config.stages[0].dim)
        if channels[0] != width[0]:
            raise UsageError(f"{width[0]} channels in stage {FIRST_STAGE}: the heads allow {channels[0]}")
    else:
        channels = _one_each(config, width)
    return replace(network, config=with_amounts(config, knob, channels))


def _read_size(network: NamedNetwork) -> str:
    height, width = network.size
    return str(height) if height == width else times(network.size, "x")


_KINDS = tuple(kind for kind in KINDS if kind != "factorized_crpe")
"""Kinds of attention without factorized_crpe: relative position encoding has its own axis."""

AXES: dict[str, Axis] = {
    "paths": _stage_axis("paths", "parallel paths of a stage", ("1", "2", "3", "4"), parse_whole),
    "layers": _stage_axis("layers", "layers of each path", ("1", "2", "3", "4"), parse_whole),
    "width": Axis(
        what="0.5x scales the channels of every stage; 48 scales them so that the first stage has 48; 48/96/144/192 sets each",
        values=("0.5x", "0.75x", "1x", "1.25x"),
        parse=_parse_width,
        edit=_with_width,
        read=lambda network: "/".join(str(stage.dim) for stage in network.config.stages),
    ),
    "mlp-ratio": _stage_axis("mlp_ratio", "hidden channels of the MLP over channels", ("1", "2", "3", "4"), parse_ratio),
    "heads": _stage_axis("heads", "attention heads", ("1", "2", "4", "8"), parse_whole),
    "attention": _stage_axis("attention", "kind of attention", _KINDS, _parse_kind),
    "local": _alternative("local", "convolutional branch in addition to the paths"),
    "cpe": _alternative("cpe", "convolutional position encoding"),
    "crpe": Axis(
        what="windows of the convolutional relative position encoding, or off",
        values=("off", "3", "3/5", "3/5/7"),
        parse=_parse_windows,
        edit=_with_windows,
        read=_read_windows,
    ),
    "fusion": _alternative("fusion", "how paths are joined: concatenated or added"),
    "patch-embed": _alternative("patch_embed", "paths embed the patches of the path before, or the input with 3/5/7 kernels"),
    "resolution": Axis(
        what="image size in pixels: one side, or HEIGHTxWIDTH",
        values=("192", "224", "256", "384"),
        parse=_parse_size,
        edit=lambda network, size: replace(network, size=size),
        read=_read_size,
    ),
}
"""Every axis by name; a new axis is one entry here."""

"""The axes of an ablation: each is one named edit of a network, in one table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from mpvit.ablation.knobs import KNOBS, scaled, turned
from mpvit.attention import KINDS, get_kind
from mpvit.attention.factorized_crpe import PUBLISHED_WINDOWS
from mpvit.config import ALTERNATIVES, FIRST_STAGE, ModelConfig
from mpvit.errors import UsageError, unknown_name
from mpvit.units import is_whole, times

_LONGEST = 9
"""Digits of a number that is no slip of the hand."""


class Subject(NamedTuple):
    """What is edited: a network, and the (height, width) in pixels of the images that it is counted on."""

    config: ModelConfig
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One thing that an ablation changes.

    Attributes:
        what: as the help says it.
        values: those taken where none are given.
        parse: a value from its text; raises ``UsageError`` for what is no value of this axis on any network.
        edit: the subject with a parsed value; raises ``UsageError`` where the network's constraints refuse it.
        read: the subject's own value as text.
    """

    what: str
    values: tuple[str, ...]
    parse: Callable[[str], Any]
    edit: Callable[[Subject, Any], Subject]
    read: Callable[[Subject], str]


def get_axis(name: str) -> Axis:
    """Return the axis ``name``; raise ``UsageError`` with the nearest name for any other."""
    if name not in AXES:
        raise unknown_name("axis", name, AXES)
    return AXES[name]


# ── values ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _whole(text: str) -> int:
    if not is_whole(text):
        raise UsageError(f"{text[:40]!r}: must be a whole number of at least 1")
    return int(text)


def _ratio(text: str) -> float:
    whole, _, fraction = text.partition(".")
    if not (text.isascii() and (whole + fraction).isdigit() and len(text) <= 2 * _LONGEST and float(text) > 0):
        raise UsageError(f"{text[:40]!r}: must be a number above 0")
    return float(text)


def _word(known: dict[str, Any], what: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:  # noqa: ANN401 - whatever the word stands for
        if text not in known:
            raise unknown_name(what, text, known)
        return known[text]

    return parse


def _kind(text: str) -> str:
    get_kind(text)
    return text


def _windows(text: str) -> tuple[tuple[int, int], ...]:
    """Read "3/5/7" as windows, each with the published share of the heads; "off" has none."""
    published = dict(PUBLISHED_WINDOWS)
    if text == "off":
        return ()
    windows = [_whole(word) for word in text.split("/")]
    if any(window % 2 == 0 for window in windows) or len(set(windows)) < len(windows):
        raise UsageError(f"{text[:40]!r}: must be off, or different odd windows", hint="for example 3/5/7")
    return tuple((window, published.get(window, max(published.values()))) for window in windows)


def _pixels(text: str) -> tuple[int, int]:
    lengths = [_whole(word) for word in text.lower().replace("×", "x").split("x")]
    if len(lengths) > 2:  # noqa: PLR2004 - height and width
        raise UsageError(f"{text[:40]!r}: must be one side, or HEIGHTxWIDTH")
    return lengths[0], lengths[-1]


def _width(text: str) -> float | tuple[int, ...]:
    """Read "0.5x" as a factor, "48" and "48/96/144/192" as channels."""
    return _ratio(text[:-1]) if text.endswith("x") else tuple(_whole(word) for word in text.split("/"))


# ── edits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _joined(values: list[str]) -> str:
    return values[0] if len(set(values)) == 1 else "/".join(values)


def _per_stage(
    field: str, what: str, values: tuple[str, ...], parse: Callable[[str], Any], show: Callable[[Any], str] = str
) -> Axis:
    """Return the axis of a field of the stages: one value for all of them, or one for each, joined by "/"."""

    def edit(subject: Subject, given: tuple[Any, ...]) -> Subject:
        stages = []
        of_stages = _one_each(subject.config, given)
        for index, (stage, value) in enumerate(zip(subject.config.stages, of_stages, strict=True)):
            try:
                stages.append(replace(stage, **{field: value}))
            except UsageError as error:
                raise UsageError(f"stage {index + FIRST_STAGE}: {error}", hint=error.hint) from None
        return subject._replace(config=replace(subject.config, stages=tuple(stages)))

    return Axis(
        what=what,
        values=values,
        parse=lambda text: tuple(parse(word) for word in text.split("/")),
        edit=edit,
        read=lambda subject: _joined([show(getattr(stage, field)) for stage in subject.config.stages]),
    )


def _one_each(config: ModelConfig, given: tuple[Any, ...]) -> tuple[Any, ...]:
    wanted = len(config.stages)
    if len(given) not in (1, wanted):
        raise UsageError(f"{len(given)} values: must be one for all stages, or {wanted}, one for each")
    return given * wanted if len(given) == 1 else given


def _switch(field: str, what: str) -> Axis:
    return _per_stage(field, what, ("on", "off"), _word({"on": True, "off": False}, "switch"), _on_or_off)


def _on_or_off(switched: bool) -> str:  # noqa: FBT001 - what it says
    return "on" if switched else "off"


def _choice(field: str, what: str) -> Axis:
    values = tuple(map(str, ALTERNATIVES[field]))
    return _per_stage(field, what, values, _word({value: value for value in values}, field.replace("_", "-")))


def _with_windows(subject: Subject, windows: tuple[tuple[int, int], ...]) -> Subject:
    stages = tuple(replace(stage, crpe_windows=windows) for stage in subject.config.stages)
    return subject._replace(config=replace(subject.config, stages=stages))


def _read_windows(subject: Subject) -> str:
    own = ["/".join(str(window) for window, _ in stage.crpe_windows) or "off" for stage in subject.config.stages]
    return own[0] if len(set(own)) == 1 else " ".join(own)


def _with_width(subject: Subject, given: float | tuple[int, ...]) -> Subject:
    config, knob = subject.config, KNOBS["width"]
    if isinstance(given, float):
        channels = scaled(config, knob, given)
    elif len(given) == 1:
        channels = scaled(config, knob, given[0] / config.stages[0].dim)
        if channels[0] != given[0]:
            raise UsageError(f"{given[0]} channels in stage {FIRST_STAGE}: the heads allow {channels[0]}")
    else:
        channels = _one_each(config, given)
    return subject._replace(config=turned(config, knob, channels))


def _read_width(subject: Subject) -> str:
    return "/".join(str(stage.dim) for stage in subject.config.stages)


def _read_pixels(subject: Subject) -> str:
    height, width = subject.size
    return str(height) if height == width else times(subject.size, "x")


_KINDS = tuple(kind for kind in KINDS if kind != "factorized_crpe")
"""Relative position encodings are an axis of their own."""

AXES: dict[str, Axis] = {
    "paths": _per_stage("paths", "parallel paths of a stage", ("1", "2", "3", "4"), _whole),
    "layers": _per_stage("layers", "layers of each path", ("1", "2", "3", "4"), _whole),
    "width": Axis(
        what="0.5x: every stage's channels by this factor; 48: so that the first stage has 48; 48/96/144/192: each stage's",
        values=("0.5x", "0.75x", "1x", "1.25x"),
        parse=_width,
        edit=_with_width,
        read=_read_width,
    ),
    "mlp-ratio": _per_stage("mlp_ratio", "hidden channels of the MLP over channels", ("1", "2", "3", "4"), _ratio),
    "heads": _per_stage("heads", "attention heads", ("1", "2", "4", "8"), _whole),
    "attention": _per_stage("attention", "kind of attention", _KINDS, _kind),
    "local": _switch("local", "convolutional branch beside the paths"),
    "cpe": _switch("cpe", "convolutional position encoding"),
    "crpe": Axis(
        what="windows of the convolutional relative position encoding, or off",
        values=("off", "3", "3/5", "3/5/7"),
        parse=_windows,
        edit=_with_windows,
        read=_read_windows,
    ),
    "fusion": _choice("fusion", "how paths are joined: concatenated or added"),
    "patch-embed": _choice("patch_embed", "paths embed each other's patches, or the input with 3/5/7 kernels"),
    "resolution": Axis(
        what="image size in pixels: one side, or HEIGHTxWIDTH",
        values=("192", "224", "256", "384"),
        parse=_pixels,
        edit=lambda subject, size: subject._replace(size=size),
        read=_read_pixels,
    ),
}
"""Every axis by name; a new one is a line here."""

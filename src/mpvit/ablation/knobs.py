"""The knobs with which a network is matched to a budget: each is one whole number in every stage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd, lcm
from typing import TypeVar

from mpvit.architecture.config import FIRST_STAGE, ModelConfig, StageConfig
from mpvit.errors import UsageError, unknown_name

_MAX_STEPS = 1000
"""Number of multiples of the heads that are tried for a whole number of hidden channels."""

_RATIO_STEPS = 16
"""MLP ratios are multiples of 1 / 16 if the channels allow it; a power of two, so that floats are exact."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Knob:
    """One whole number in every stage.

    Attributes:
        what: name in a table.
        read: stage -> its amount.
        write: (stage, amount) -> the stage with this amount; raises ``UsageError`` if it cannot have it.
        step: (stage, whether it is the first) -> the number that divides every amount.
    """

    what: str
    read: Callable[[StageConfig], int]
    write: Callable[[StageConfig, int], StageConfig]
    step: Callable[[StageConfig, bool], int] = lambda _, __: 1


def _channel_step(stage: StageConfig, first: bool) -> int:  # noqa: FBT001 - see ``Knob.step``
    """Return the smallest number of channels that the heads and, for the stem, 2 divide, with whole hidden channels."""
    least = lcm(stage.heads, 2) if first else stage.heads
    for step in range(least, _MAX_STEPS * least, least):
        if float(stage.mlp_ratio * step).is_integer():
            return step
    raise UsageError(
        f"mlp_ratio = {stage.mlp_ratio}: must be whole when it is multiplied by channels divisible by heads = {stage.heads}"
    )


def _hidden_step(stage: StageConfig, _: bool) -> int:  # noqa: FBT001 - see ``Knob.step``
    """Return the smallest number of hidden channels whose ratio is a multiple of 1 / 16, or coarser."""
    return stage.dim // gcd(stage.dim, _RATIO_STEPS)


KNOBS = {
    "width": Knob("channels", lambda stage: stage.dim, lambda stage, dim: replace(stage, dim=dim), _channel_step),
    "layers": Knob("layers", lambda stage: stage.layers, lambda stage, layers: replace(stage, layers=layers)),
    "mlp-ratio": Knob(
        "hidden channels",
        lambda stage: stage.hidden_dim,
        lambda stage, hidden: replace(stage, mlp_ratio=hidden / stage.dim),
        _hidden_step,
    ),
}


def get_knob(name: str) -> Knob:
    """Return the knob ``name``; raise ``UsageError`` with the nearest name if there is none."""
    if name not in KNOBS:
        raise unknown_name("knob", name, KNOBS)
    return KNOBS[name]


def amount_steps(config: ModelConfig, knob: Knob) -> tuple[int, ...]:
    """Return the step of each stage."""
    return tuple(knob.step(stage, index == 0) for index, stage in enumerate(config.stages))


def scaled_amounts(config: ModelConfig, knob: Knob, factor: float) -> tuple[int, ...]:
    """Return the amount of each stage times ``factor``, rounded to a multiple of its step, at least one step."""
    return tuple(
        step * max(1, round(factor * knob.read(stage) / step))
        for stage, step in zip(config.stages, amount_steps(config, knob), strict=True)
    )


def with_amounts(config: ModelConfig, knob: Knob, amounts: Sequence[int]) -> ModelConfig:
    """Return the network with one amount for each stage; raise ``UsageError`` naming a stage that cannot have its own."""
    return edit_stages(
        config, lambda stage, amount: stage if knob.read(stage) == amount else knob.write(stage, amount), amounts
    )


def edit_stages(config: ModelConfig, edit: Callable[[StageConfig, Value], StageConfig], values: Sequence[Value]) -> ModelConfig:
    """Return the network with each stage edited by its own value; a ``UsageError`` of ``edit`` names the stage."""
    stages = []
    for number, (stage, value) in enumerate(zip(config.stages, values, strict=True), FIRST_STAGE):
        try:
            stages.append(edit(stage, value))
        except UsageError as error:
            raise UsageError(f"stage {number}: {error}", hint=error.hint) from None
    return replace(config, stages=tuple(stages))

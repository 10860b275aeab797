"""What can be turned to meet a budget: one whole number a stage, in steps that the configuration's constraints allow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import gcd, lcm

from mpvit.config import FIRST_STAGE, ModelConfig, StageConfig
from mpvit.errors import UsageError, unknown_name

_MOST_STEPS = 1000
"""Multiples of the heads that are tried for channels whose MLP's hidden channels are whole."""

_RATIO_STEPS = 16
"""MLP ratios are multiples of one over this where the channels allow it: a power of two, so that they are exact."""


@dataclass(frozen=True, slots=True)
class Knob:
    """One whole number a stage.

    Attributes:
        what: as people read it.
        read: the stage's amount.
        write: the stage with another amount; raises ``UsageError`` where it cannot have it.
        step: what the amount must be a multiple of; ``first`` is the first stage.
    """

    what: str
    read: Callable[[StageConfig], int]
    write: Callable[[StageConfig, int], StageConfig]
    step: Callable[[StageConfig, bool], int] = lambda _, __: 1


def _channel_step(stage: StageConfig, first: bool) -> int:  # noqa: FBT001 - as ``Knob.step`` says
    """Return the least channels that the heads divide, half of which the stem can have and whose MLP is whole."""
    least = lcm(stage.heads, 2) if first else stage.heads
    for step in range(least, _MOST_STEPS * least, least):
        if float(stage.mlp_ratio * step).is_integer():
            return step
    raise UsageError(f"mlp_ratio = {stage.mlp_ratio}: times channels divisible by heads = {stage.heads} is never whole")


def _hidden_step(stage: StageConfig, _: bool) -> int:  # noqa: FBT001 - likewise
    """Return the least hidden channels whose ratio is a multiple of 1/16 or coarser, which a float gives back exactly."""
    return stage.dim // gcd(stage.dim, _RATIO_STEPS)


def _with_hidden_channels(stage: StageConfig, hidden: int) -> StageConfig:
    return replace(stage, mlp_ratio=hidden / stage.dim)


KNOBS = {
    "width": Knob("channels", lambda stage: stage.dim, lambda stage, dim: replace(stage, dim=dim), _channel_step),
    "layers": Knob("layers", lambda stage: stage.layers, lambda stage, layers: replace(stage, layers=layers)),
    "mlp-ratio": Knob("hidden channels", lambda stage: stage.hidden_dim, _with_hidden_channels, _hidden_step),
}


def get_knob(name: str) -> Knob:
    """Return the knob ``name``; raise ``UsageError`` with the nearest name for any other."""
    if name not in KNOBS:
        raise unknown_name("knob", name, KNOBS)
    return KNOBS[name]


def steps(config: ModelConfig, knob: Knob) -> tuple[int, ...]:
    """Return each stage's step."""
    return tuple(knob.step(stage, index == 0) for index, stage in enumerate(config.stages))


def scaled(config: ModelConfig, knob: Knob, factor: float) -> tuple[int, ...]:
    """Return each stage's amount times ``factor``, rounded to its step, at least one step."""
    return tuple(
        step * max(1, round(factor * knob.read(stage) / step))
        for stage, step in zip(config.stages, steps(config, knob), strict=True)
    )


def turned(config: ModelConfig, knob: Knob, amounts: Sequence[int]) -> ModelConfig:
    """Return the network with these amounts, one a stage; raise ``UsageError`` where a stage cannot have its own."""
    stages = []
    for index, (stage, amount) in enumerate(zip(config.stages, amounts, strict=True)):
        try:
            stages.append(stage if knob.read(stage) == amount else knob.write(stage, amount))
        except UsageError as error:
            raise UsageError(f"stage {index + FIRST_STAGE}: {error}", hint=error.hint) from None
    return replace(config, stages=tuple(stages))

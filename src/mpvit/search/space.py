"""The space of a search: the choices of each stage, of which every combination is a network."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import product
from math import prod
from typing import Any

from mpvit.architecture.config import FIRST_STAGE, ModelConfig, StageConfig
from mpvit.errors import UsageError
from mpvit.units import parse_whole

STAGES = 4
"""Number of stages, as in the paper."""

_MAX_CHOICES = 5000
"""Maximum number of choices of one stage; more is a typing error."""

Choices = tuple[tuple[Any, ...], ...]
"""The values from which each stage chooses, one tuple for each stage."""

_HINT = "commas join the choices of one stage, / the stages: 2/2,3/2,3/2,3"


def count_networks(stages: Sequence[Sequence[StageConfig]]) -> int:
    """Return the number of networks that take one choice of each stage, none narrower than the stage before it."""
    before = Counter[int]({0: 1})
    for choices in stages:
        ways = Counter[int]()
        for choice in choices:
            ways[choice.dim] += sum(count for dim, count in before.items() if dim <= choice.dim)
        before = ways
    return before.total()


@dataclass(frozen=True, slots=True)
class Space:
    """Four stages with the choices of each; choices that make no valid ``StageConfig`` are left out.

    No stage of a network is narrower than the stage before it, as in every published network. The default choices are the
    values of the published variants and some between them. Raises ``UsageError`` for another number of stages, too many
    choices, a stage without a valid choice, and a space without a network.
    """

    paths: Choices = ((2,), (2, 3), (2, 3), (2, 3))
    layers: Choices = ((1,), (1, 2, 3), (2, 4, 6, 8), (1, 2, 3))
    dim: Choices = ((64, 128), (96, 128, 160, 224), (176, 192, 216, 288, 368), (216, 256, 288, 384, 480))
    mlp_ratio: Choices = ((2, 4),) * STAGES
    heads: Choices = ((8,),) * STAGES

    def __post_init__(self) -> None:
        """Check every field once."""
        for name, choices in self.choices().items():
            if len(choices) != STAGES:
                raise UsageError(f"{name}: choices of {len(choices)} stages: must be of {STAGES}")
        for number, count in enumerate(self._counts(), FIRST_STAGE):
            if not 1 <= count <= _MAX_CHOICES:
                raise UsageError(f"stage {number} has {count} choices: must be from 1 to {_MAX_CHOICES}")
        if not self.networks:
            raise UsageError(
                f"width {choices_text(self.dim)}: every choice has a stage narrower than the one before",
                hint="/ joins the stages, the first stage first: 64/128/192/256",
            )

    def choices(self) -> dict[str, Choices]:
        """Return the choices of each field of a ``StageConfig``, by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def stages(self) -> tuple[tuple[StageConfig, ...], ...]:
        """Return the valid configurations of each stage."""
        return tuple(self._stage(index) for index in range(STAGES))

    @property
    def networks(self) -> int:
        """Number of networks."""
        return count_networks(self.stages())

    @property
    def left_out(self) -> int:
        """Number of combinations of the choices of one stage that are no valid configuration, over all stages."""
        return sum(self._counts()) - sum(map(len, self.stages()))

    def _counts(self) -> list[int]:
        return [prod(len(choices[index]) for choices in self.choices().values()) for index in range(STAGES)]

    def _stage(self, index: int) -> tuple[StageConfig, ...]:
        found: list[StageConfig] = []
        reason = ""
        for values in product(*(choices[index] for choices in self.choices().values())):
            try:
                stage = StageConfig(**dict(zip(self.choices(), values, strict=True)))
                if index == 0:
                    ModelConfig((stage,))  # the stem needs even channels
            except UsageError as error:
                reason = str(error)
            else:
                found.append(stage)
        if not found:
            raise UsageError(f"stage {index + FIRST_STAGE} has no choice that makes a stage: {reason}")
        return tuple(found)


DEFAULT = Space()


def parse_choices(text: str, parse: Callable[[str], float] = parse_whole) -> Choices:
    """Read "2,3" (every stage) or "2/2,3/3/3" (each stage) as the choices of the stages; ``parse`` reads one value.

    Raises ``UsageError`` for another number of stages, a repeated choice, and as ``parse``.
    """
    groups = text.split("/")
    if len(groups) not in (1, STAGES):
        raise UsageError(f"{text[:40]!r}: {len(groups)} stages, must be one list for all or {STAGES}", hint=_HINT)
    try:
        choices = tuple(tuple(parse(word.strip()) for word in group.split(",")) for group in groups)
    except UsageError as error:
        raise UsageError(str(error), hint=_HINT) from None
    for group in choices:
        for choice, times in Counter(group).items():
            if times > 1:
                raise UsageError(f"{text[:40]!r}: {choice} comes {times} times among the choices of one stage", hint=_HINT)
    return choices if len(choices) == STAGES else choices * STAGES


def choices_text(choices: Choices) -> str:
    """Return choices as the text that ``parse_choices`` reads, with one list if it is the same for every stage."""
    groups = [",".join(map(str, stage)) for stage in choices]
    return groups[0] if len(set(groups)) == 1 else "/".join(groups)


def stages_text(config: ModelConfig, name: str) -> str:
    """Return the field ``name`` of each stage: 2/3/3/3."""
    return "/".join(str(getattr(stage, name)) for stage in config.stages)


def shape_text(config: ModelConfig) -> str:
    """Return the paths, layers, widths, MLP ratios and heads of a network, stage by stage."""
    names = {"paths": "paths", "layers": "layers", "dim": "width", "mlp_ratio": "MLP ratio", "heads": "heads"}
    return ", ".join(f"{what} {stages_text(config, name)}" for name, what in names.items())

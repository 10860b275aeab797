"""The space that is searched: the choices of each stage, every combination of them a network."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import product
from math import prod
from typing import Any

from mpvit.config import FIRST_STAGE, ModelConfig, StageConfig
from mpvit.errors import UsageError
from mpvit.units import is_whole

STAGES = 4
"""As published."""

_LONGEST = 9
"""Digits of a number that is no slip of the hand."""

_MOST_CHOICES = 5000
"""Of one stage; more is a slip of the hand."""

Choices = tuple[tuple[Any, ...], ...]
"""What each stage chooses from, one tuple a stage."""


def widening(stages: Sequence[Sequence[StageConfig]]) -> int:
    """Return how many ways there are to choose one of each of ``stages``, none narrower than the one before."""
    behind = Counter[int]({0: 1})
    for choices in stages:
        ways = Counter[int]()
        for choice in choices:
            ways[choice.dim] += sum(count for dim, count in behind.items() if dim <= choice.dim)
        behind = ways
    return behind.total()


@dataclass(frozen=True, slots=True)
class Space:
    """Four stages with the choices of each; what a ``StageConfig`` refuses is left out.

    No stage of a network is narrower than the one before, as in every published one. The default has the published
    variants' numbers and some between them. Raises ``UsageError`` for another number of stages, more choices than can be
    meant, a stage that no choice is left for, and a space without a network.
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
        for index, count in enumerate(self._counts()):
            if not 1 <= count <= _MOST_CHOICES:
                raise UsageError(f"stage {index + FIRST_STAGE} has {count} choices: must be from 1 to {_MOST_CHOICES}")
        if not self.networks:
            raise UsageError(
                f"width {choices_text(self.dim)}: every choice has a stage narrower than the one before",
                hint="stages are joined by /, the first stage first: 64/128/192/256",
            )

    def choices(self) -> dict[str, Choices]:
        """Return what each field of a ``StageConfig`` is chosen from, by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def stages(self) -> tuple[tuple[StageConfig, ...], ...]:
        """Return the configurations that each stage can have."""
        return tuple(self._stage(index) for index in range(STAGES))

    @property
    def networks(self) -> int:
        """How many there are."""
        return widening(self.stages())

    @property
    def left_out(self) -> int:
        """How many combinations of one stage's choices make no stage, over all stages."""
        return sum(self._counts()) - sum(map(len, self.stages()))

    def _counts(self) -> list[int]:
        return [prod(len(choices[index]) for choices in self.choices().values()) for index in range(STAGES)]

    def _stage(self, index: int) -> tuple[StageConfig, ...]:
        names = list(self.choices())
        found: list[StageConfig] = []
        reason = ""
        for values in product(*(choices[index] for choices in self.choices().values())):
            try:
                stage = StageConfig(**dict(zip(names, values, strict=True)))
                if index == 0:
                    ModelConfig((stage,))
            except UsageError as error:
                reason = str(error)
            else:
                found.append(stage)
        if not found:
            raise UsageError(f"stage {index + FIRST_STAGE} has no choice that makes a stage: {reason}")
        return tuple(found)


DEFAULT = Space()


def parse_choices(option: str, text: str, *, whole: bool = True) -> Choices:
    """Read "2,3" (every stage) or "2/2,3/3/3" (one group a stage) as what the stages choose from.

    Raises ``UsageError`` for another number of stages, a choice that comes twice, and what is no (whole) number.
    """
    groups = text.split("/")
    if len(groups) not in (1, STAGES):
        raise UsageError(
            f"{option} {text[:40]!r}: {len(groups)} stages, must be one list for all or {STAGES}",
            hint="stages are joined by /, the choices of one by commas: 2/2,3/2,3/2,3",
        )
    parse = partial(_whole if whole else _ratio, option)
    choices = tuple(tuple(parse(word.strip()) for word in group.split(",")) for group in groups)
    for choice, times in Counter((index, choice) for index, stage in enumerate(choices) for choice in stage).items():
        if times > 1:
            raise UsageError(
                f"{option} {text[:40]!r}: {choice[1]} comes {times} times among the choices of one stage",
                hint="commas join the choices of one stage, / the stages: 2/3/3/3",
            )
    return choices if len(choices) == STAGES else choices * STAGES


def _whole(option: str, word: str) -> int:
    if not is_whole(word):
        raise UsageError(f"{option} {word[:40]!r}: must be a whole number of at least 1", hint="for example 2/2,3/2,3/2,3")
    return int(word)


def _ratio(option: str, word: str) -> float:
    digits = word.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST and float(word) > 0):
        raise UsageError(f"{option} {word[:40]!r}: must be a number above 0", hint="for example 2,4 or 2/2,4/3.5/4")
    number = float(word)
    return int(number) if number.is_integer() else number


def choices_text(choices: Choices) -> str:
    """Return choices as ``parse_choices`` reads them, once where every stage has the same."""
    groups = [",".join(map(str, stage)) for stage in choices]
    return groups[0] if len(set(groups)) == 1 else "/".join(groups)


def stages_text(config: ModelConfig, name: str) -> str:
    """Return the field ``name`` of each stage, as in 2/3/3/3."""
    return "/".join(str(getattr(stage, name)) for stage in config.stages)

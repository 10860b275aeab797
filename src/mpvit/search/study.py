"""What is searched for."""

from dataclasses import dataclass, field

from mpvit.counting import check_convention
from mpvit.errors import UsageError
from mpvit.search.criteria import Key, Limits, get_criterion
from mpvit.search.space import DEFAULT, Space, widening

MOST_CANDIDATES = 10_000
"""Rows that anybody looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to search. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        space: the networks.
        limits: what they may cost on one image.
        criterion: what they are ranked by: a key of ``mpvit.search.criteria.CRITERIA``.
        top: how many of the best are kept.
        size: (height, width) of the image in pixels.
        convention: what MACs are: a key of ``mpvit.operations.conventions.CONVENTIONS``.
        classes: that the networks tell apart.
    """

    space: Space = DEFAULT
    limits: Limits = field(default_factory=Limits)
    criterion: str = "budget"
    top: int = 20
    size: tuple[int, int] = (224, 224)
    convention: str = "fvcore"
    classes: int = 1000

    def __post_init__(self) -> None:
        """Check every field once."""
        check_convention("analytic", self.convention)
        if get_criterion(self.criterion).limited and self.limits == Limits():
            raise UsageError(
                f"criterion {self.criterion!r}: must have a limit", hint="for example --max-macs 3G --max-params 11M"
            )
        if not 1 <= self.top <= MOST_CANDIDATES:
            raise UsageError(f"top = {self.top}: must be from 1 to {MOST_CANDIDATES}")
        for name, length in zip(("height", "width"), self.size, strict=True):
            if length < 1:
                raise UsageError(f"{name} = {length}: must be at least 1")

    @property
    def networks(self) -> int:
        """How many the space has."""
        return self.space.networks

    @property
    def batches(self) -> int:
        """How many batches cover it: one for each choice of all stages but the last two."""
        return widening(self.space.stages()[:-2])

    def rank(self, macs: int, params: int) -> Key:
        """Return what the criterion compares a network of these costs by."""
        return get_criterion(self.criterion).key(macs, params, self.limits)

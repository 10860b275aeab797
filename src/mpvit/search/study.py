"""The configuration of a search."""

from dataclasses import dataclass, field

from mpvit.architecture.closed_form import require_lengths
from mpvit.counting import check_convention
from mpvit.errors import UsageError
from mpvit.search.criteria import Key, Limits, get_criterion
from mpvit.search.space import DEFAULT, Space, count_networks

MAX_CANDIDATES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStudy:
    """What is searched. Raises ``UsageError`` naming the field, the value and the rule.

    Attributes:
        space: the networks.
        limits: maximum cost of a network on one image.
        criterion: key of ``mpvit.search.criteria.CRITERIA`` that ranks the networks.
        top: number of candidates: the best networks.
        size: (height, width) of the image, in pixels.
        convention: key of ``mpvit.operations.conventions.CONVENTIONS`` for the MACs.
        classes: number of classes.
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
                f"criterion {self.criterion!r}: must have a limit", hint="limit the MACs or the parameters, or choose another"
            )
        if not 1 <= self.top <= MAX_CANDIDATES:
            raise UsageError(f"top = {self.top}: must be from 1 to {MAX_CANDIDATES}")
        require_lengths(1, *self.size)

    @property
    def networks(self) -> int:
        """Number of networks in the space."""
        return self.space.networks

    @property
    def batches(self) -> int:
        """Number of batches in which the space is examined: one for each choice of all stages but the last two."""
        return count_networks(self.space.stages()[:-2])

    def rank(self, macs: int, params: int) -> Key:
        """Return the sort key of a network of this cost under the criterion."""
        return get_criterion(self.criterion).key(macs, params, self.limits)

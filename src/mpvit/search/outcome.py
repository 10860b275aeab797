"""A search's candidates with their latency and accuracy where they were measured and trained, and which of them is taken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mpvit.errors import MpvitError, UsageError
from mpvit.measurement import Measurement
from mpvit.search.found import Candidate, Found
from mpvit.training.comparison import AccuracyComparison


class Trial(NamedTuple):
    """What candidates came to, all trained alike; the accuracies in the order of ``found.best``, beside the best of them.

    Attributes:
        data: the pictures' name.
        epochs: of each run.
        usual_epochs: what the recipe takes by itself.
        recipe: its name.
        accuracies: on pictures held out.
    """

    data: str
    epochs: int
    usual_epochs: int
    recipe: str
    accuracies: tuple[AccuracyComparison, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate: its rank, 1 the best, its latency, and whether that is within the limit.

    ``time`` and ``within`` are None where it was not measured, ``accuracy`` where it was not trained. ``by_criterion`` is its
    rank by the criterion, which is its rank unless the candidates were trained.
    """

    rank: int
    candidate: Candidate
    time: Measurement | None = None
    within: bool | None = None
    accuracy: AccuracyComparison | None = None
    by_criterion: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found; with a limit in seconds, how long the first of ``found.best`` took, in that order; and their trial."""

    found: Found
    max_latency_s: float | None = None
    times: Sequence[Measurement] = ()
    trial: Trial | None = None

    @property
    def ranked(self) -> tuple[Ranked, ...]:
        """The candidates, the best first: by accuracy where they were trained, else by the criterion."""
        rows = [self._ranked(index, candidate) for index, candidate in enumerate(self.found.best)]
        if self.trial:
            rows.sort(key=lambda row: -row.accuracy.mean if row.accuracy else 0)
        return tuple(replace(row, rank=rank) for rank, row in enumerate(rows, start=1))

    def _ranked(self, index: int, candidate: Candidate) -> Ranked:
        time = self.times[index] if index < len(self.times) else None
        median_s = time.median_s if time else None
        within = None if median_s is None or self.max_latency_s is None else median_s <= self.max_latency_s
        accuracy = self.trial.accuracies[index] if self.trial else None
        return Ranked(index + 1, candidate, time, within, accuracy, index + 1)

    @property
    def best(self) -> Ranked | None:
        """The best that is known to be within every limit; where none was timed, within those on MACs and parameters."""
        return next((row for row in self.ranked if row.within or not self.times), None)

    def pick(self, rank: int) -> Ranked:
        """Return the candidate of this rank; raise ``UsageError`` for one that there is not."""
        ranked = self.ranked
        if not 1 <= rank <= len(ranked):
            raise UsageError(f"pick = {rank}: must be from 1 to {len(ranked)}, the candidates that there are")
        return ranked[rank - 1]

    def too_slow(self) -> MpvitError:
        """Return the error for candidates none of which is within the limit on latency."""
        medians = [(row.time.median_s, row.rank) for row in self.ranked if row.time and row.time.median_s]
        limit = f"{1e3 * (self.max_latency_s or 0):g} ms"
        if not medians:
            return MpvitError(f"no candidate could be measured, so none is known to be within {limit}")
        fastest, rank = min(medians)
        return MpvitError(
            f"none of the {len(medians)} candidates measured is within {limit}: the fastest, #{rank}, "
            f"takes {1e3 * fastest:.3g} ms",
            hint="raise --max-latency, lower --max-macs, or measure more candidates with --top",
        )

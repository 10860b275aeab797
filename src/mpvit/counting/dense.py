"""Detectors and segmenters in closed form, beside what is published of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mpvit.config import ModelConfig
from mpvit.counting import analytic, check_convention
from mpvit.counting.results import TOTAL, Count
from mpvit.dense import TASKS, Task, cut, label, network
from mpvit.dense.published import CONVENTION, PUBLISHED, PublishedTask
from mpvit.errors import CheckError, UsageError, unknown_name
from mpvit.operations import Block, Shape
from mpvit.operations.conventions import CONVENTIONS
from mpvit.variants import get_config

PART = "part"
"""The cut into the backbone and each part of the head."""

CUTS = (TOTAL, PART, *analytic.PARTS)
"""The ways to show a detector or segmenter."""


class Subject(NamedTuple):
    """A task on a backbone, its name, and what is published of the two, if anything."""

    task: Task
    name: str
    config: ModelConfig
    printed: PublishedTask | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCount(Count):
    """What a detector or segmenter costs, or a part of it; ``printed`` is what is published of it, if anything."""

    task: Task
    printed: PublishedTask | None = None

    @property
    def label(self) -> str:
        """What was counted, in few words."""
        return label(self.model, self.task)

    @property
    def agreement(self) -> tuple[bool, bool] | None:
        """Whether parameters and MACs round to the printed figures; None if there are none."""
        if self.printed is None or self.params is None or self.macs is None:
            return None
        return self.printed.agreement(self.params, self.macs)

    def as_row(self) -> dict[str, Any]:
        """Return the count as a row of ``mpvit flops``, with the task's numbers and what is published of it."""
        row = Count.as_row(self)  # super() would look for the class that has no slots
        row |= self.task.as_row()
        if self.printed and self.agreement:
            row["published"] = {
                "params_millions": self.printed.params_millions,
                "macs_billions": self.printed.macs_billions,
            }
            row["agrees_with_published"] = all(self.agreement)
            row["params_agree"], row["macs_agree"] = self.agreement
        return row


def subjects(tasks: Iterable[Task], networks: Mapping[str, ModelConfig]) -> list[Subject]:
    """Return each task on each network."""
    return [Subject(task, name, config) for task in tasks for name, config in networks.items()]


def count(subject: Subject, size: tuple[int, int] | None = None, *, batch: int = 1, convention: str | None = None) -> TaskCount:
    """Count at the task's own size unless one is given, as (height, width), under ``published-dense`` unless told otherwise.

    Raises ``UsageError`` for wrong arguments.
    """
    tree, shape = _tree(subject, size, batch)
    rule = check_convention("analytic", convention or CONVENTION)
    return _count(subject, shape, rule, **analytic.figures(tree, rule), printed=subject.printed)


def count_parts(
    subject: Subject, size: tuple[int, int] | None = None, *, by: str, batch: int = 1, convention: str | None = None
) -> list[TaskCount]:
    """Count each part: by ``part``, ``stage``, ``path``, ``kind`` or ``layer``; they sum to ``count`` in every figure."""
    tree, shape = _tree(subject, size, batch)
    rule = check_convention("analytic", convention or CONVENTION)
    pieces = analytic.operations_by(tree, by) if by in ("kind", "layer") else cut(tree, by)
    return [_count(subject, shape, rule, part=part, **analytic.figures(node, rule, by)) for part, node in pieces.items()]


def _tree(subject: Subject, size: tuple[int, int] | None, batch: int) -> tuple[Block, Shape]:
    height, width = size or subject.task.size
    tree = network(subject.config, subject.task, batch, height, width)
    return tree, (batch, subject.config.in_channels, height, width)


def _count(subject: Subject, shape: Shape, convention: str, **fields: Any) -> TaskCount:  # noqa: ANN401 - of a count
    task, name = subject.task, subject.name
    return TaskCount(model=name, task=task, input_shape=shape, counter="analytic", convention=convention, **fields)


def require_closed_form(by: str, counters: Sequence[str]) -> None:
    """Raise ``UsageError`` for a cut that does not exist, or a counter that has no detectors and segmenters."""
    if by not in CUTS:
        raise unknown_name("part", by, CUTS)
    if list(counters) != ["analytic"]:
        raise UsageError(
            f"--task with --counter {','.join(counters)}: only the analytic counter counts tasks", hint="leave --counter out"
        )


# ── what is published ───────────────────────────────────────────────────────────────────────────────────────────────


def published(tasks: Iterable[Task], networks: Mapping[str, ModelConfig]) -> list[Subject]:
    """Return what is published of these tasks, with their own numbers, on these networks.

    Raises ``UsageError`` where nothing is.
    """
    own = {task.name: task for task in tasks if task == TASKS[task.name]}
    found = [
        Subject(own[row.task], row.name, row.config, row)
        for row in PUBLISHED
        if row.task in own and networks.get(row.variant) == get_config(row.variant)
    ]
    if not found:
        raise _nothing_published()
    return found


def require_published(size: tuple[int, int] | None, batch: int, convention: str | None) -> None:
    """Raise ``UsageError`` for a size, batch or convention other than the published figures'."""
    if size is not None or batch != 1 or convention not in (None, CONVENTION):
        raise _nothing_published()


def _nothing_published() -> UsageError:
    names = ", ".join(dict.fromkeys(row.task for row in PUBLISHED))
    return UsageError(
        "--check has nothing to hold the counts against",
        hint=f"published are {names} on the variants, each at its own size, classes and regions, under {CONVENTION}",
    )


def check(counts: Sequence[TaskCount]) -> None:
    """Raise ``CheckError`` for the first count that does not round to published figures that are explained."""
    for counted in counts:
        if counted.printed and counted.agreement not in (None, (True, counted.printed.explained)):
            raise CheckError(
                f"{counted.label}: {counted.params} parameters and {counted.macs} MACs, published are "
                f"{counted.printed.params_millions} million and {counted.printed.macs_billions} billion"
            )


@dataclass(frozen=True, slots=True)
class Findings:
    """What holding counts against the published figures has shown.

    Attributes:
        as_classified: counts with the classified network, where the published backbone must have been another.
        unexplained: counts under every convention, where none gives the published figure.
    """

    as_classified: tuple[TaskCount, ...]
    unexplained: tuple[TaskCount, ...]


def find(subjects: Iterable[Subject]) -> Findings:
    """Return the findings about those of ``subjects`` that something is published of."""
    printed = [(subject, subject.printed) for subject in subjects if subject.printed]
    return Findings(
        tuple(
            count(subject._replace(name=row.variant, config=get_config(row.variant), printed=None))
            for subject, row in printed
            if row.mlp_ratio is not None
        ),
        tuple(count(subject, convention=rule) for subject, row in printed for rule in CONVENTIONS if not row.explained),
    )

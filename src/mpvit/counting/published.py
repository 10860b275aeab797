"""Counts next to the published figures: of classifiers, and of detectors and segmenters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import VARIANTS, get_config
from mpvit.counting import analytic
from mpvit.counting.results import Count
from mpvit.dense import TASKS
from mpvit.dense.published import CONVENTION, PUBLISHED, PublishedTask
from mpvit.errors import CheckError, UsageError
from mpvit.network import NamedNetwork
from mpvit.operations import Cost, Shape
from mpvit.operations.conventions import CONVENTIONS

PUBLISHED_INPUT: Shape = (1, 3, 224, 224)
"""The input of the published counts of classifiers."""


def published_count(config: ModelConfig, shape: Sequence[int]) -> Cost | None:
    """Return what the authors' code counts for this classifier and input; None if it is not one of theirs."""
    if tuple(shape) != PUBLISHED_INPUT:
        return None
    same = (v.published for v in VARIANTS.values() if replace(v.config, drop_path=config.drop_path) == config)
    return next(same, None)


def published_tasks(
    networks: Iterable[NamedNetwork], batch: int = 1, convention: str | None = None
) -> dict[NamedNetwork, PublishedTask]:
    """Return the printed figures for those of ``networks`` that are published, with the backbone that they were printed for.

    Raises ``UsageError`` if there are none: they are for the variants under a task as it is in ``TASKS``.
    """
    own = {(network.name, network.task): network for network in networks if network.task}
    found = {
        replace(network, name=row.name, config=row.config): row
        for row in PUBLISHED
        if (network := own.get((row.variant, TASKS[row.task])))
        and network.config == get_config(row.variant)
        and network.size == TASKS[row.task].size
    }
    if not found or batch != 1 or convention not in (None, CONVENTION):
        names = ", ".join(dict.fromkeys(row.task for row in PUBLISHED))
        raise UsageError(
            "nothing is published to compare these counts with",
            hint=f"published are {names} on the variants, each at its own size, classes and regions, under {CONVENTION}",
        )
    return found


def require_published(counts: Sequence[Count]) -> None:
    """Raise ``UsageError`` if there is no published figure for any of ``counts``."""
    if all(counted.agrees is None for counted in counts):
        raise UsageError(
            "nothing is published to compare these counts with",
            hint="published are the four variants at 224x224, batch 1, under the convention fvcore",
        )


def check(counts: Sequence[Count]) -> None:
    """Raise ``CheckError`` for the first count that differs from a published figure, or from the closed form."""
    for counted in counts:
        figures = f"{counted.params} parameters, {counted.macs} MACs and {counted.activations} activations"
        if counted.agrees is False:
            raise CheckError(f"{counted.model}: {counted.counter} counts {figures}, published are {counted.published}")
        if counted.agrees_with_closed_form is False:
            raise CheckError(
                f"{counted.model}: {counted.counter} counts {counted.macs} MACs, the closed form {counted.closed_form_macs}"
            )
        printed = counted.printed
        if printed and counted.agreement not in (None, (True, printed.explained)):
            raise CheckError(
                f"{counted.label}: {counted.params} parameters and {counted.macs} MACs, published are "
                f"{printed.params_millions} million and {printed.macs_billions} billion"
            )


@dataclass(frozen=True, slots=True)
class Findings:
    """What the comparison with the printed figures of tasks has shown.

    Attributes:
        as_classified: counts with the classified network as the backbone, where the published backbone must be another one.
        unexplained: counts under every convention, where none gives the printed figure.
    """

    as_classified: tuple[Count, ...]
    unexplained: tuple[Count, ...]


def find(counts: Iterable[Count]) -> Findings:
    """Return the findings about those of ``counts`` that have printed figures."""
    as_classified, unexplained = [], []
    for task, row in ((counted.task, counted.printed) for counted in counts):
        if task and row and row.mlp_ratio is not None:
            network = NamedNetwork(row.variant, get_config(row.variant), task.size, task)
            as_classified.append(analytic.count(network, 1, CONVENTION))
        if task and row and not row.explained:
            network = NamedNetwork(row.name, row.config, task.size, task)
            unexplained += [replace(analytic.count(network, 1, rule), printed=row) for rule in CONVENTIONS]
    return Findings(tuple(as_classified), tuple(unexplained))

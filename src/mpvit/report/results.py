"""What a report is drawn from: the results of the studies, as frozen values, with the environment that produced them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpvit.ablation.saved import TrainedAblation
from mpvit.ablation.study import Ablation
from mpvit.benchmark.results import NetworkTime
from mpvit.compare_attention.results import AttentionCost, StageTokens
from mpvit.config import ModelConfig
from mpvit.counting.results import Count
from mpvit.reconcile.explain import Explanation
from mpvit.tables import Column
from mpvit.trace.layer_tree import LayerTree
from mpvit.variants import DEFAULT_VARIANT, VARIANTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A table as it is told: its cells are words and numbers alone."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[int | float | str | None, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One view of what the paths of a trained network see, as ``mpvit paths`` says it; it needs pictures to be made again.

    Attributes:
        view: of ``mpvit paths``.
        weights: the network's file.
        data: the pictures that were asked for; None for the network's own.
        caption: of the figure.
        results: every number, in flat rows.
        tables: what is told of them.
        notes: on both.
        svg: the figure.
    """

    view: str
    weights: str
    data: str | None
    caption: str
    results: tuple[dict[str, Any], ...]
    tables: tuple[Told, ...]
    notes: tuple[str, ...]
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of every study, in the order of the page.

    Attributes:
        environment: versions, and for what was measured the device, threads and dtype (``mpvit.measurement.machine``).
        counts: of each network, under the published convention; the others are about the same networks and size.
        paths: of each network, one path count in every stage after the other.
        matched: the same of ``featured``, its channels made to meet the published multiply-adds.
        explanations: what other tools count, for the modules of the published checkpoints.
        attention: each kind of attention at the tokens of ``featured``'s first stage.
        sweep: the same as the number of tokens grows.
        met: the tokens that each stage of ``featured`` meets.
        layers: each network's tree, down to the depth that the page shows.
        times: of each network in each mode; empty where nothing was measured.
        tasks: detectors and segmenters on the published networks among them, under the published convention; those of a
            backbone that was published otherwise; and those that no convention explains, under each.
        studies: ablations whose rows were trained.
        sights: what the paths of a trained network see.
    """

    environment: Mapping[str, Any]
    counts: tuple[Count, ...]
    paths: tuple[Ablation, ...]
    matched: tuple[Ablation, ...]
    explanations: tuple[Explanation, ...]
    attention: tuple[AttentionCost, ...]
    sweep: tuple[AttentionCost, ...]
    met: tuple[StageTokens, ...]
    layers: tuple[LayerTree, ...]
    times: tuple[NetworkTime, ...] = ()
    tasks: tuple[Count, ...] = ()
    studies: tuple[TrainedAblation, ...] = ()
    sights: tuple[Sight, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the networks."""
        return tuple(count.model for count in self.counts)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the images in pixels."""
        _, _, height, width = self.counts[0].input_shape
        return height, width

    @property
    def configs(self) -> dict[str, ModelConfig]:
        """The networks by name."""
        return {found.study.model: found.study.config for found in self.paths}

    def is_published(self, name: str) -> bool:
        """Tell whether the network ``name`` is the published variant of that name, which a file's may not be."""
        return name in VARIANTS and self.configs[name] == VARIANTS[name].config

    @property
    def featured(self) -> str:
        """The network that figures of a single one show."""
        return featured(self.models)


def featured(models: tuple[str, ...]) -> str:
    """Return the network that figures of a single one show, the first where the usual one is missing."""
    return DEFAULT_VARIANT if DEFAULT_VARIANT in models else models[0]

"""The content of a report: the results of the studies, as frozen values, with the environment that produced them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpvit.ablation.saved import TrainedAblation
from mpvit.ablation.study import Ablation
from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import DEFAULT_VARIANT, VARIANTS
from mpvit.benchmark.results import NetworkTime
from mpvit.compare_attention.results import AttentionCost, StageTokens
from mpvit.counting.results import Count
from mpvit.reconcile.explain import Explanation
from mpvit.tables import Table
from mpvit.trace.layer_tree import LayerTree


@dataclass(frozen=True, slots=True, kw_only=True)
class PathView:
    """One view of the paths of a trained network, as ``mpvit paths`` shows it; kept whole, because it needs the images.

    Attributes:
        view: name of the view.
        weights: file of the network.
        data: the images, as requested; None for the network's own.
        caption: caption of the figure.
        results: flat rows with every number.
        tables: the tables, without marked cells.
        notes: notes on the tables.
        svg: the figure.
    """

    view: str
    weights: str
    data: str | None
    caption: str
    results: tuple[dict[str, Any], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]
    svg: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of every study.

    Attributes:
        environment: versions and, if anything was measured, device, threads and dtype (``mpvit.measurement.machine``).
        counts: cost of each network, under the convention of the published figures.
        paths: ablation of the number of paths, for each network.
        matched: the same ablation of ``featured``, with channels that keep its multiply-adds.
        explanations: numbers of other tools, for the modules of the published checkpoints.
        attention: cost of each kind of attention at the tokens of the first stage of ``featured``.
        sweep: the same as the number of tokens grows.
        stage_tokens: tokens in each stage of ``featured``.
        layers: layer tree of each network, to the depth that the page shows.
        times: latency of each network in each mode; empty if nothing was measured.
        tasks: detectors and segmenters on the published networks, under the convention of the published figures; those with a
            backbone other than the published one; and those that no convention explains, under each convention.
        studies: ablations whose rows were trained.
        path_views: views of the paths of a trained network.
    """

    environment: Mapping[str, Any]
    counts: tuple[Count, ...]
    paths: tuple[Ablation, ...]
    matched: tuple[Ablation, ...]
    explanations: tuple[Explanation, ...]
    attention: tuple[AttentionCost, ...]
    sweep: tuple[AttentionCost, ...]
    stage_tokens: tuple[StageTokens, ...]
    layers: tuple[LayerTree, ...]
    times: tuple[NetworkTime, ...] = ()
    tasks: tuple[Count, ...] = ()
    studies: tuple[TrainedAblation, ...] = ()
    path_views: tuple[PathView, ...] = ()

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
        """Tell whether the network ``name`` is the published variant of that name; a network from a file may not be."""
        return name in VARIANTS and self.configs[name] == VARIANTS[name].config

    @property
    def featured(self) -> str:
        """Name of the network that figures of a single one show."""
        return featured(self.models)

    @property
    def featured_paths(self) -> Ablation:
        """Ablation of the number of paths of ``featured``."""
        return self.paths[self.models.index(self.featured)]


def featured(models: tuple[str, ...]) -> str:
    """Return the network that figures of a single one show: the default variant or, without it, the first."""
    return DEFAULT_VARIANT if DEFAULT_VARIANT in models else models[0]

"""Every study of a report in closed form, and what it takes to measure the rest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from mpvit.ablation.study import Study as Ablated
from mpvit.ablation.study import ablate
from mpvit.attention import KINDS
from mpvit.compare_attention.costs import attention_costs, met_tokens, stage_sizes, sweep, sweep_tokens
from mpvit.config import FIRST_STAGE, ModelConfig
from mpvit.counting import count, count_network
from mpvit.counting.published import find, published_tasks
from mpvit.dense import TASKS
from mpvit.dense.published import CONVENTION, PUBLISHED
from mpvit.measurement.machine import environment
from mpvit.network import NamedNetwork
from mpvit.operations import strided_length
from mpvit.reconcile.explain import explain
from mpvit.report.results import Report, featured
from mpvit.tools import TOOLS
from mpvit.trace.closed_form import trace_network
from mpvit.trace.layer_tree import LayerNode, LayerTree, layer_tree
from mpvit.variants import get_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mpvit.benchmark.results import NetworkTime
    from mpvit.benchmark.study import Study
    from mpvit.counting.results import Count

LAYOUT = "published"
"""Whose modules the tools are explained on: those of the checkpoints that people count."""

DEPTH = 2
"""Levels of the layers that a report keeps."""

PATHS = ("1", "2", "3", "4")
"""Path counts, the same in every stage."""

BATCH = 1
MODES = ("plain", "fused")
THREADS = 1
"""Threads that wait for each other on a busy machine would be most of what is measured."""

MIN_TIME_S = 1.0
BUDGET_S = 30.0
"""Of all measurements together; what that cuts short says so."""


def collect(models: Mapping[str, ModelConfig], size: tuple[int, int]) -> Report:
    """Return the report of some networks on one image of ``size`` pixels, nothing measured.

    Raises ``UsageError`` for a size that a network cannot have.
    """
    counts = tuple(count(config, size, name=name) for name, config in models.items())
    name_shown = featured(tuple(models))
    shown = models[name_shown]
    tokens = first_tokens(size)
    sizes = stage_sizes(shown, FIRST_STAGE, tokens)
    networks = [NamedNetwork(name, config, size) for name, config in models.items()]
    traces = {each.name: trace_network(each, BATCH) for each in networks}
    published = {each.name: trace_network(each, BATCH, layout=LAYOUT) for each in networks}
    return Report(
        environment=environment(),
        counts=counts,
        paths=tuple(
            ablate(Ablated(model=name, config=config, axes={"paths": PATHS}, size=size)) for name, config in models.items()
        ),
        matched=(ablate(Ablated(model=name_shown, config=shown, axes={"paths": PATHS}, size=size, match="macs")),),
        explanations=tuple(explain(trace, name, tool) for name, trace in published.items() for tool in TOOLS),
        attention=tuple(attention_costs(list(KINDS), sizes)),
        sweep=tuple(sweep(list(KINDS), sizes, sweep_tokens(tokens))),
        met=tuple(met_tokens(shown)),
        layers=tuple(_cut(layer_tree(trace, name)) for name, trace in traces.items()),
        tasks=tuple(_tasks(models)),
    )


def _tasks(models: Mapping[str, ModelConfig]) -> "Iterator[Count]":
    """Yield what ``Report.tasks`` says of the networks."""
    if not any(models.get(row.variant) == get_config(row.variant) for row in PUBLISHED):
        return
    networks = [NamedNetwork(name, config, task.size, task) for task in TASKS.values() for name, config in models.items()]
    counts = [replace(count_network(network), printed=row) for network, row in published_tasks(networks).items()]
    yield from counts
    findings = find(counts)
    yield from findings.as_classified
    yield from (found for found in findings.unexplained if found.convention != CONVENTION)


def first_tokens(size: tuple[int, int]) -> int:
    """Return the number of tokens that each path of the first stage meets on an image of ``size`` pixels, at stride 4."""
    height, width = (strided_length(strided_length(side, 2), 2) for side in size)
    return height * width


def benchmark(models: Mapping[str, ModelConfig], size: tuple[int, int]) -> "Study":
    """Return what a report measures of its networks, on the CPU."""
    from mpvit.benchmark.study import Study

    return Study(
        models=models, size=size, batches=(BATCH,), modes=MODES, threads=THREADS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S
    )


def with_times(report: Report, times: "Sequence[NetworkTime]") -> Report:
    """Return the report with what was measured; without any, as it is."""
    if not times:
        return report
    measured = times[0].timed.measurement
    return replace(report, times=tuple(times), environment=environment(measured.device, measured.threads, measured.dtype))


def _cut(tree: LayerTree) -> LayerTree:
    def cut(layer: LayerNode, depth: int) -> LayerNode:
        return replace(layer, children=tuple(cut(child, depth - 1) for child in layer.children) if depth else ())

    return replace(tree, root=cut(tree.root, DEPTH))

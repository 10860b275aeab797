"""Every study of a report in closed form; and the setup of those that are measured or need a trained network."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path

from mpvit.ablation.study import AblationStudy, ablate
from mpvit.architecture.config import FIRST_STAGE, ModelConfig
from mpvit.architecture.variants import get_config
from mpvit.attention import KINDS
from mpvit.benchmark.results import NetworkTime
from mpvit.benchmark.study import BenchmarkStudy
from mpvit.compare_attention.costs import attention_cost, stage_sizes, stage_tokens, sweep, sweep_tokens
from mpvit.counting import count_network
from mpvit.counting.published import find, published_tasks
from mpvit.counting.results import Count
from mpvit.dense import TASKS
from mpvit.dense.published import CONVENTION, PUBLISHED
from mpvit.measurement.machine import environment
from mpvit.network import NamedNetwork
from mpvit.operations import strided_length
from mpvit.progress import Track
from mpvit.reconcile.explain import explain
from mpvit.report.results import PathView, Report, featured
from mpvit.tools import TOOLS
from mpvit.trace.closed_form import trace_network
from mpvit.trace.layer_tree import LayerNode, LayerTree, layer_tree

LAYOUT = "published"
"""Layout of the modules on which the tools are explained: that of the checkpoints that people count."""

DEPTH = 2
"""Depth of the layer trees."""

PATHS = ("1", "2", "3", "4")
"""Numbers of paths, the same in every stage."""

BATCH = 1
MODES = ("plain", "fused")
THREADS = 1
"""CPU threads of measurements; on a busy machine, several threads would mostly wait for each other."""

MIN_TIME_S = 1.0
BUDGET_S = 30.0
"""Time limit of all measurements together, in seconds; measurements that it cuts short have a note."""

_CAPTIONS = {
    "fields": "Outlines of half of the squared gradients of each path's centre token, over an image, and its receptive field.",
    "contribution": "Contribution of each branch to the fusion of its stage, and the accuracy without it.",
    "similarity": "Linear CKA between branches and stages: 1 if equal up to rotation and scale.",
    "attention": "Tokens that the centre token attends to, in the map that factorized attention implies and in a full one.",
}


def collect(models: Mapping[str, ModelConfig], size: tuple[int, int]) -> Report:
    """Return the report of some networks on one image of ``size`` pixels, without measurements.

    Raises ``UsageError`` for a size that a network cannot have.
    """
    shown = featured(tuple(models))
    tokens = prod(strided_length(strided_length(side, 2), 2) for side in size)  # the first stage is at stride 4
    sizes = stage_sizes(models[shown], FIRST_STAGE, tokens)
    networks = [NamedNetwork(name, config, size) for name, config in models.items()]
    published = {each.name: trace_network(each, BATCH, layout=LAYOUT) for each in networks}
    return Report(
        environment=environment(),
        counts=tuple(map(count_network, networks)),
        paths=tuple(ablate(_path_study(name, config, size)) for name, config in models.items()),
        matched=(ablate(replace(_path_study(shown, models[shown], size), match="macs")),),
        explanations=tuple(explain(trace, name, tool) for name, trace in published.items() for tool in TOOLS),
        attention=tuple(attention_cost(name, sizes) for name in KINDS),
        sweep=tuple(sweep(list(KINDS), sizes, sweep_tokens(tokens))),
        stage_tokens=tuple(stage_tokens(models[shown])),
        layers=tuple(_cut(layer_tree(trace_network(each, BATCH), each.name)) for each in networks),
        tasks=tuple(_tasks(models)),
    )


def _path_study(name: str, config: ModelConfig, size: tuple[int, int]) -> AblationStudy:
    return AblationStudy(model=name, config=config, axes={"paths": PATHS}, size=size)


def _tasks(models: Mapping[str, ModelConfig]) -> "Iterator[Count]":
    """Yield the counts of ``Report.tasks``."""
    if not any(models.get(row.variant) == get_config(row.variant) for row in PUBLISHED):
        return
    networks = [NamedNetwork(name, config, task.size, task) for task in TASKS.values() for name, config in models.items()]
    counts = [replace(count_network(network), printed=row) for network, row in published_tasks(networks).items()]
    yield from counts
    findings = find(counts)
    yield from findings.as_classified
    yield from (found for found in findings.unexplained if found.convention != CONVENTION)


def _cut(tree: LayerTree) -> LayerTree:
    def cut(layer: LayerNode, depth: int) -> LayerNode:
        return replace(layer, children=tuple(cut(child, depth - 1) for child in layer.children) if depth else ())

    return replace(tree, root=cut(tree.root, DEPTH))


def benchmark(models: Mapping[str, ModelConfig], size: tuple[int, int]) -> "BenchmarkStudy":
    """Return the benchmark of a report's networks on the CPU."""
    from mpvit.benchmark.study import BenchmarkStudy
    from mpvit.measurement.options import TimingOptions

    networks = tuple(NamedNetwork(name, config, size) for name, config in models.items())
    timing = TimingOptions(threads=THREADS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
    return BenchmarkStudy(networks=networks, batches=(BATCH,), modes=MODES, timing=timing)


def with_times(report: Report, times: "Sequence[NetworkTime]") -> Report:
    """Return the report with measured times; unchanged if there are none."""
    if not times:
        return report
    measured = times[0].timed.measurement
    return replace(report, times=tuple(times), environment=environment(measured.device, measured.threads, measured.dtype))


def path_views(weights: Path, data: str | None, track: "Track") -> tuple[PathView, ...]:
    """Return every view of the network in ``weights`` on the held-out images of ``data``, or on its own.

    ``track`` shows the progress over batches. Errors are those of ``load_network`` and ``find_images``.
    """
    from mpvit.paths.images import find_images
    from mpvit.paths.views import BATCH, IMAGES, path_view
    from mpvit.plots.paths import view_figure
    from mpvit.prediction.inference import InferenceConfig
    from mpvit.prediction.loading import load_network
    from mpvit.report.svg import draw_svg
    from mpvit.tables.paths import view_document

    network = load_network(weights)
    how = InferenceConfig.of(network.preprocessing, batch=BATCH)
    found = []
    for name, most in IMAGES.items():
        view = path_view(name, network, find_images(network, how, None, data, most), track)
        document = view_document(view)
        found.append(
            PathView(
                view=name,
                weights=str(weights),
                data=data,
                caption=_CAPTIONS[name],
                results=document.results,
                tables=document.tables,
                notes=document.notes,
                svg=draw_svg(view_figure(view), name),
            )
        )
    return tuple(found)

"""The sections of the page: the tables and figure of each study, a summary, and the commands that make them again."""

from dataclasses import dataclass

from mpvit.ablation.saved import TrainedAblation
from mpvit.architecture.config import FIRST_STAGE
from mpvit.compare_attention.costs import CROSSING
from mpvit.counting.published import Findings
from mpvit.dense.published import CONVENTION
from mpvit.network import NamedNetwork
from mpvit.plots.ablation import ablation_figure
from mpvit.plots.accuracy import cost_accuracy_figure
from mpvit.plots.attention import attention_figure
from mpvit.plots.waterfall import waterfall_figure
from mpvit.report.collect import BATCH, BUDGET_S, DEPTH, LAYOUT, MIN_TIME_S, MODES, PATHS, THREADS
from mpvit.report.commands import command_line, study_command, view_command
from mpvit.report.results import PathView, Report
from mpvit.report.svg import draw_svg
from mpvit.tables import Document
from mpvit.tables.ablation import QUANTITIES, ablation_document
from mpvit.tables.attention import attention_document
from mpvit.tables.counts import check_document, count_document
from mpvit.tables.layers import layer_document
from mpvit.tables.number_text import ratio_text
from mpvit.tables.reconcile import reconcile_document
from mpvit.units import grouped


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section of the page.

    Attributes:
        name: name of its anchor and of the file of its figure.
        title: its heading.
        summary: what it shows, in one or two sentences.
        command: commands that make its tables again, one per line.
        document: its tables and notes.
        caption: caption of its figure.
        figure_command: command that makes the figure again; empty if there is none of its own.
        svg: its figure; empty if it has none.
    """

    name: str
    title: str
    summary: str
    command: str
    document: Document
    caption: str = ""
    figure_command: str = ""
    svg: str = ""


def sections(report: Report) -> list[Section]:
    """Return the sections for which a report has results, in the order of the page."""
    found = [*map(_study, range(1, len(report.studies) + 1), report.studies), *map(_path_view, report.path_views)]
    found += [_counts(report), _paths(report), _matched(report), _reconcile(report)]
    found += [_tasks(report)] if report.tasks else []
    found += [_attention(report), _layers(report)]
    return [*found, _times(report)] if report.times else found


def _study(number: int, study: TrainedAblation) -> Section:
    asked = study.ablation.study
    budget = "" if asked.match == "none" else f", at the same {QUANTITIES[asked.match]}"
    name = f"worth-{number}"
    return Section(
        name=name,
        title=f"What {' and '.join(asked.axes)} are worth{budget}",
        summary=(
            "Every row was trained with the same recipe, the same seeds, and the same data in the same order. "
            "Differences from the baseline are paired by seed."
        ),
        command=study_command(study),
        document=ablation_document(study.ablation),
        caption=f"{asked.model} on {study.data}: accuracy over multiply-adds; each dot is one seed.",
        svg=draw_svg(cost_accuracy_figure(study.ablation, study.data), name),
    )


_VIEWS = {
    "fields": (
        "How far each path sees",
        "The paths of a stage embed patches of different sizes: the closed form says so, and gradients of the network show it.",
    ),
    "contribution": (
        "What each path contributes",
        "The fusion adds up its branches. Silencing one shows whether the network can do without it.",
    ),
    "similarity": ("How similar paths are", "Two paths with the same output would be one path paid twice."),
    "attention": ("What a token attends to", "Factorized attention computes no map between tokens, but it implies one."),
}
"""Title and summary of each view."""


def _path_view(view: PathView) -> Section:
    title, summary = _VIEWS[view.view]
    return Section(
        name=f"paths-{view.view}",
        title=title,
        summary=summary,
        command=view_command(view),
        document=Document("paths", view.results, view.tables, view.notes),
        caption=view.caption,
        figure_command=f"{view_command(view)} --plot {view.view}.svg",
        svg=view.svg,
    )


def _counts(report: Report) -> Section:
    checked = [count for count in report.counts if count.agrees is not None]
    summary = "Counted in closed form, without running a network, by the rules of fvcore, which the paper used."
    if checked and all(count.agrees for count in checked):
        which = "All figures" if len(checked) == len(report.counts) else "Those of the published variants"
        summary += f" {which} are the published integers."
    return Section(
        name="counts",
        title="Counts",
        summary=summary,
        command=command_line("flops", report, {}),
        document=count_document(report.counts),
    )


def _paths(report: Report) -> Section:
    documents = [ablation_document(found) for found in report.paths]
    options = {"values": ",".join(PATHS)}
    tables = tuple(table for document in documents for table in document.tables)
    notes = tuple(dict.fromkeys(note for document in documents for note in document.notes))
    return Section(
        name="paths",
        title="What a path costs",
        summary=(
            "The network with the same number of paths in every stage; then what each further path adds, and to which part of "
            "the network. Nothing else changes, so the rows have different budgets."
        ),
        command="\n".join(command_line("ablate paths", report, options, models=[name]) for name in report.models),
        document=Document("ablate", (), tables, notes),
        caption=f"{report.featured} with one to four paths in every stage.",
        figure_command=command_line("ablate paths", report, {**options, "plot": "paths.svg"}, models=[report.featured]),
        svg=draw_svg(ablation_figure(report.featured_paths), "paths"),
    )


def _matched(report: Report) -> Section:
    (found,) = report.matched
    return Section(
        name="matched",
        title="Paths at the same budget",
        summary=(
            "The fair comparison: the number of channels of every row is chosen so that its multiply-adds are those of the "
            "network. The rows differ only in how they spend them."
        ),
        command=command_line("ablate paths", report, {"values": ",".join(PATHS), "match": "macs"}, models=[report.featured]),
        document=ablation_document(found),
    )


def _reconcile(report: Report) -> Section:
    shown = [each for each in report.explanations if each.model == report.featured]
    least, most = min(shown, key=lambda e: e.tool_macs), max(shown, key=lambda e: e.tool_macs)
    options = {"layout": LAYOUT}
    return Section(
        name="reconcile",
        title="Why tools print different numbers",
        summary=(
            f"For the same {report.featured}, {least.tool} counts {_giga(least.tool_macs)} multiply-adds and {most.tool} "
            f"{_giga(most.tool_macs)}; the exact count is {_giga(shown[0].macs)}. The number of each tool is the exact count "
            "plus named terms, to the last integer."
        ),
        command=command_line("reconcile", report, options),
        document=reconcile_document(report.explanations, LAYOUT, live=False),
        caption=f"From the exact count of {report.featured} to the number of each tool.",
        figure_command=command_line("reconcile", report, {**options, "plot": "reconcile.svg"}, models=[report.featured]),
        svg=draw_svg(waterfall_figure(shown), "reconcile"),
    )


def _tasks(report: Report) -> Section:
    checked = [count for count in report.tasks if count.printed and count.convention == CONVENTION]
    findings = Findings(
        tuple(count for count in report.tasks if count.printed is None),
        tuple(count for count in report.tasks if count.printed and not count.printed.explained),
    )
    published = [name for name in report.models if report.is_published(name)]
    return Section(
        name="dense",
        title="Detectors and segmenters",
        summary=(
            "Tables 2 to 4 of the paper print millions and billions. These are the integers behind them, for each head at the "
            "image size at which it was published."
        ),
        command=command_line("flops --task all --check", report, {"size": None}, models=published),
        document=check_document(checked, findings),
    )


def _attention(report: Report) -> Section:
    first = next(cost for cost in report.attention if cost.kind == CROSSING[0])
    options = {"size": None, "stage": FIRST_STAGE, "tokens": first.tokens}
    crossing = [cost for cost in report.sweep if cost.kind in CROSSING]
    return Section(
        name="attention",
        title="Attention as N grows",
        summary=(
            "Factorized attention costs 2·N·C·d multiply-adds, full softmax attention 2·N²·C: with the "
            f"{grouped(first.tokens)} tokens of the first stage of {report.featured}, full attention costs "
            f"{ratio_text(first.ratio)} as much; below N = {first.crossover_tokens:.4g} it is cheaper."
        ),
        command=command_line("compare-attn", report, options, models=[report.featured]),
        document=attention_document(report.attention, crossing, report.stage_tokens, report.featured),
        caption="Multiply-adds of each kind of attention over the number of tokens.",
        figure_command=command_line("compare-attn", report, {**options, "plot": "attention.svg"}, models=[report.featured]),
        svg=draw_svg(attention_figure(report.sweep), "attention"),
    )


def _layers(report: Report) -> Section:
    return Section(
        name="layers",
        title="Layers",
        summary="Each row is exactly the sum of the rows below it; bars are shares of the network's multiply-adds.",
        command=command_line("layers", report, {"depth": DEPTH}),
        document=layer_document(report.layers, "order", DEPTH),
    )


def _times(report: Report) -> Section:
    from mpvit.benchmark.study import BenchmarkStudy
    from mpvit.measurement.options import TimingOptions
    from mpvit.plots.roofline import roofline_figure
    from mpvit.tables.benchmark import benchmark_document

    dtype = report.times[0].timed.measurement.dtype
    study = BenchmarkStudy(
        networks=tuple(NamedNetwork(name, config, report.size) for name, config in report.configs.items()),
        batches=(BATCH,),
        modes=tuple(dict.fromkeys(time.mode for time in report.times)),
        timing=TimingOptions(dtype=dtype, min_time_s=MIN_TIME_S, budget_s=BUDGET_S),
    )
    options = {"batch": BATCH, "mode": ",".join(MODES), "threads": THREADS}
    options |= {"min-time": f"{MIN_TIME_S:g}", "budget": f"{BUDGET_S:g}"}
    return Section(
        name="bench",
        title="Latency and roofline",
        summary="Measured on one machine, with interleaved modes: the ratios apply to other machines, the milliseconds do not.",
        command=command_line("bench", report, options),
        document=benchmark_document(study, report.times),
        caption="Speed over arithmetic intensity, under the two measured ceilings of this machine.",
        figure_command=command_line("bench", report, {**options, "plot": "bench.svg"}),
        svg=draw_svg(roofline_figure(report.times), "bench"),
    )


def _giga(number: int) -> str:
    return f"{number / 1e9:.2f} G"

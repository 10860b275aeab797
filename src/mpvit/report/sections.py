"""The page's sections: each study's tables and figure, what they say in a sentence, and the commands that make them again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import TYPE_CHECKING

from mpvit.compare_attention.costs import CROSSING
from mpvit.config import FIRST_STAGE
from mpvit.counting.published import Findings
from mpvit.dense.published import CONVENTION
from mpvit.report.collect import BATCH, BUDGET_S, DEPTH, LAYOUT, MIN_TIME_S, MODES, PATHS, THREADS
from mpvit.report.results import Report
from mpvit.tables import Document
from mpvit.tables.ablation import ablation_document
from mpvit.tables.attention import attention_document, ratio_text
from mpvit.tables.counts import count_document
from mpvit.tables.dense import check_document
from mpvit.tables.layers import layer_document
from mpvit.tables.reconcile import reconcile_document
from mpvit.units import grouped, times
from mpvit.variants import VARIANTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One study on the page.

    Attributes:
        name: of its anchor and its figure's file.
        title: its heading.
        lead: what to see in it, in a sentence or two.
        command: what makes its tables again, a line each.
        document: its tables and notes.
        caption: of its figure; empty where it has none.
        figure_command: what makes the figure again.
        draw: makes the figure.
        svg: the figure where it was drawn already; empty where ``draw`` makes it.
    """

    name: str
    title: str
    lead: str
    command: str
    document: Document
    caption: str = ""
    figure_command: str = ""
    draw: "Callable[[], Figure] | None" = None
    svg: str = ""


def sections(report: Report) -> list[Section]:
    """Return the sections that a report has results for, in the order of the page."""
    made = [_counts(report), _paths(report), _matched(report), _reconcile(report)]
    made += [_tasks(report)] if report.tasks else []
    made += [_attention(report), _layers(report)]
    return [*made, _times(report)] if report.times else made


def command_line(name: str, report: Report, options: Mapping[str, object], *, models: Sequence[str] | None = None) -> str:
    """Return a command with the options that name the report's networks, all or ``models``, and their size."""
    chosen = models or report.models
    variants = [name for name in chosen if report.is_published(name)]
    files = [quote(f"{name}.toml") for name in chosen if name not in variants]
    given = {
        "variant": "all" if variants == list(VARIANTS) else ",".join(variants) or None,
        "config": " --config ".join(files) or None,
        "size": _size(report),
        **options,
    }
    return " ".join(["mpvit", name, *(f"--{key} {value}".strip() for key, value in given.items() if value is not None)])


def _size(report: Report) -> str:
    height, width = report.size
    return str(height) if height == width else times(report.size, "x")


def _counts(report: Report) -> Section:
    checked = [count for count in report.counts if count.agrees is not None]
    agree = bool(checked) and all(count.agrees for count in checked)
    lead = "Counted in closed form, without running a network, under the rules of fvcore, which the paper used."
    if agree:
        lead += (
            " Every figure is the published integer."
            if len(checked) == len(report.counts)
            else " Those of the published variants are the published integers."
        )
    return Section(
        name="counts",
        title="Counts",
        lead=lead,
        command=command_line("flops", report, {}),
        document=count_document(report.counts),
    )


def _paths(report: Report) -> Section:
    documents = [ablation_document(found) for found in report.paths]
    asked = {"values": ",".join(PATHS)}
    found = report.paths[report.models.index(report.featured)]

    def draw() -> "Figure":
        from mpvit.plots.ablation import ablation_figure

        return ablation_figure(found)

    return Section(
        name="paths",
        title="What a path costs",
        lead=(
            "The same number of paths in every stage, beside the network as it is; then what each further path adds, and in "
            "which part of the network. Nothing else changes, so the rows differ in their budgets."
        ),
        command="\n".join(command_line("ablate paths", report, asked, models=[name]) for name in report.models),
        document=Document(
            "ablate",
            (),
            tuple(table for document in documents for table in document.tables),
            tuple(dict.fromkeys(note for document in documents for note in document.notes)),
        ),
        caption=f"{report.featured} with one to four paths in every stage.",
        figure_command=command_line("ablate paths", report, {**asked, "plot": "paths.svg"}, models=[report.featured]),
        draw=draw,
    )


def _matched(report: Report) -> Section:
    (found,) = report.matched
    asked = {"values": ",".join(PATHS), "match": "macs"}
    return Section(
        name="matched",
        title="Paths at the same budget",
        lead=(
            "The fair comparison: the channels of every row are made to meet the network's own multiply-adds, so that "
            "what differs is how they are spent."
        ),
        command=command_line("ablate paths", report, asked, models=[report.featured]),
        document=ablation_document(found),
    )


def _reconcile(report: Report) -> Section:
    shown = [each for each in report.explanations if each.model == report.featured]
    least, most = min(shown, key=lambda e: e.tool_macs), max(shown, key=lambda e: e.tool_macs)
    lead = (
        f"Of the same {report.featured}, {least.tool} counts {_giga(least.tool_macs)} multiply-adds and {most.tool} "
        f"{_giga(most.tool_macs)}; the exact count is {_giga(shown[0].macs)}. Each tool's number is that count plus named "
        "terms, to the last integer."
    )

    def draw() -> "Figure":
        from mpvit.plots.waterfall import waterfall_figure

        return waterfall_figure(shown)

    return Section(
        name="reconcile",
        title="Why tools print other numbers",
        lead=lead,
        command=command_line("reconcile", report, {"layout": LAYOUT}),
        document=reconcile_document(report.explanations, LAYOUT, live=False),
        caption=f"From the exact count of {report.featured} to what each tool counts.",
        figure_command=command_line("reconcile", report, {"layout": LAYOUT, "plot": "reconcile.svg"}, models=[report.featured]),
        draw=draw,
    )


def _tasks(report: Report) -> Section:
    under_the_rule = [count for count in report.tasks if count.printed and count.convention == CONVENTION]
    findings = Findings(
        tuple(count for count in report.tasks if count.printed is None),
        tuple(count for count in report.tasks if count.printed and not count.printed.explained),
    )
    return Section(
        name="dense",
        title="Detectors and segmenters",
        lead=(
            "The paper's tables 2 to 4 print millions and billions. These are the integers behind them, each head at the size "
            "that it was published at."
        ),
        command=command_line("flops --task all --check", report, {"size": None}, models=_published(report)),
        document=check_document(under_the_rule, findings),
    )


def _published(report: Report) -> list[str]:
    return [name for name in report.models if report.is_published(name)]


def _attention(report: Report) -> Section:
    first = next(cost for cost in report.attention if cost.kind == CROSSING[0])
    lead = (
        "Factorized attention costs 2·N·C·d multiply-adds, full softmax attention 2·N²·C: at the "
        f"{grouped(first.tokens)} tokens of {report.featured}'s first stage full attention costs "
        f"{ratio_text(first.ratio)} as much, and below N = {first.crossover_tokens:.4g} it is the cheaper one."
    )
    asked = {"size": None, "stage": FIRST_STAGE, "tokens": first.tokens}

    def draw() -> "Figure":
        from mpvit.plots.attention import attention_figure

        return attention_figure(report.sweep)

    crossing = [cost for cost in report.sweep if cost.kind in CROSSING]
    return Section(
        name="attention",
        title="Attention as N grows",
        lead=lead,
        command=command_line("compare-attn", report, asked, models=[report.featured]),
        document=attention_document(report.attention, crossing, report.met, report.featured),
        caption="Multiply-adds of each kind of attention over the number of tokens.",
        figure_command=command_line("compare-attn", report, {**asked, "plot": "attention.svg"}, models=[report.featured]),
        draw=draw,
    )


def _layers(report: Report) -> Section:
    return Section(
        name="layers",
        title="Layers",
        lead="Each row is exactly the sum of what stands below it; bars are shares of the network's multiply-adds.",
        command=command_line("layers", report, {"depth": DEPTH}),
        document=layer_document(report.layers, "order", DEPTH),
    )


def _times(report: Report) -> Section:
    from mpvit.benchmark.study import Study
    from mpvit.tables.benchmark import benchmark_document

    measured = report.times[0].timed.measurement
    study = Study(
        models=report.configs,
        size=report.size,
        batches=(BATCH,),
        dtype=measured.dtype,
        modes=tuple(dict.fromkeys(time.mode for time in report.times)),
        min_time_s=MIN_TIME_S,
        budget_s=BUDGET_S,
    )
    asked = {
        "batch": BATCH,
        "mode": ",".join(MODES),
        "threads": THREADS,
        "min-time": f"{MIN_TIME_S:g}",
        "budget": f"{BUDGET_S:g}",
    }

    def draw() -> "Figure":
        from mpvit.plots.roofline import roofline_figure

        return roofline_figure(report.times)

    return Section(
        name="bench",
        title="Latency and roofline",
        lead="Measured on one machine, modes interleaved: the ratios carry over to others, the milliseconds do not.",
        command=command_line("bench", report, asked),
        document=benchmark_document(study, report.times),
        caption="Speed over arithmetic intensity, under the two ceilings that this machine has shown.",
        figure_command=command_line("bench", report, {**asked, "plot": "bench.svg"}),
        draw=draw,
    )


def _giga(number: int) -> str:
    return f"{number / 1e9:.2f} G"

"""``mpvit bench``: how fast networks run on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.benchmark.modes import INFERENCE_ONLY, LIBRARIES, MODES, PARTS
from mpvit.extras import require
from mpvit.measurement.options import DTYPES, TF32
from mpvit.network import NamedNetwork
from mpvit_cli import options, tasks
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.benchmark.results import Result

Batches = Annotated[
    str, typer.Option("--batch", metavar="N,N,...", help="Images in the batch, each measured on its own; with --task 1.")
]
Modes = Annotated[
    list[str] | None,
    typer.Option(
        "--mode",
        metavar="NAME|all",
        help=f"How networks run: {', '.join(MODES)} or all; repeatable, ratios are over the first. (default: plain)",
        autocompletion=options.complete([options.ALL, *MODES]),
        show_default=False,
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--budget", parser=options.number, metavar="SECONDS", help="Longest time in all. (default: none)", show_default=False
    ),
]
By = Annotated[
    str, typer.Option("--by", metavar="|".join(PARTS), help="Time each layer too.", autocompletion=options.complete(PARTS))
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="|".join((*DTYPES, TF32)),
        help="Data type of weights and images; tf32 on CUDA.",
        autocompletion=options.complete((*DTYPES, TF32)),
    ),
]
Outputs = Annotated[
    list[Path] | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write there, whole or not at all; repeatable.", show_default=False),
]
Baseline = Annotated[
    Path | None,
    typer.Option("--compare", metavar="FILE.json", help="Speed-up over an earlier run's -o FILE.json.", show_default=False),
]


def bench(
    ctx: typer.Context,
    variant: options.Variants = None,
    config: options.Configs = None,
    task: tasks.Task = None,
    classes: tasks.Classes = None,
    proposals: tasks.Proposals = None,
    detections: tasks.Detections = None,
    size: options.Size = "224",
    batch: Batches = "1,8,32",
    device: options.Device = "cpu",
    dtype: Dtype = "float32",
    mode: Modes = None,
    backward: options.Backward = False,
    threads: options.Threads = None,
    min_time: options.MinTime = 2.0,
    budget: Budget = None,
    by: By = "network",
    compare: Baseline = None,
    plot: options.Plot = None,
    form: options.Format = None,
    output: Outputs = None,
) -> None:
    """Measure latency, throughput and peak memory, and how far they are from this machine's ceilings.

    Modes are interleaved, outputs checked, samples kept in JSON. An interrupted or memory-starved run shows what it has.

    Examples:
      mpvit bench --variant xsmall --mode plain,fused --batch 1,8

      mpvit bench --variant tiny --mode all --plot roofline.svg -o tiny.json

      mpvit bench --variant tiny --task semantic-fpn --size 256
    """
    from mpvit.benchmark import baseline
    from mpvit.benchmark.measure import measure_networks
    from mpvit.benchmark.study import BenchmarkStudy
    from mpvit.measurement.options import TimingOptions
    from mpvit.tables.benchmark import benchmark_document

    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    pixels, batches = options.parse_size(size), options.parse_wholes("--batch", batch)
    of_task = tasks.parse_task(task, {"classes": classes, "proposals": proposals, "detections": detections})
    if of_task:
        pixels = tasks.own_size(ctx, pixels, of_task)
        batches = batches if options.given(ctx, "batch") else (1,)
    modes = options.parse_names(
        mode, [name for name in MODES if name not in INFERENCE_ONLY or not (task or backward)], ["plain"]
    )
    if options.ALL not in (mode or ()):  # of all modes, those that cannot run here say so and the others go on
        require(*(library for name in modes if name in MODES for library in LIBRARIES[MODES[name].engine]))
    timing = TimingOptions(device=device, dtype=dtype, threads=threads, backward=backward, min_time_s=min_time, budget_s=budget)
    models = options.parse_models(variant, config)
    networks = tuple(NamedNetwork(name, each, pixels, of_task) for name, each in models.items())
    study = BenchmarkStudy(networks=networks, batches=batches, modes=tuple(modes), by=by, timing=timing)
    earlier = baseline.read_baseline(compare, study) if compare else None
    groups: list[tuple[Result, ...]] = []
    interrupted = terminal.collect(measure_networks(study), "Measuring", len(study.groups), into=groups)
    results = [baseline.compared(result, earlier) for group in groups for result in group]
    document = benchmark_document(study, results, earlier)
    if output:
        for path in output:
            terminal.show(document, form, path)
    else:
        terminal.show(document, form)
    if plot:
        from mpvit.plots.roofline import roofline_figure

        terminal.save(roofline_figure(results), plot)
    if interrupted:
        raise typer.Exit(130)
    if any(result.timed.measurement.failed for result in results):
        raise typer.Exit(1)

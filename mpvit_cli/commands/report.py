"""``mpvit report``: everything about networks on one page."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.errors import UsageError
from mpvit_cli import options
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpvit.benchmark.results import Result
    from mpvit.config import ModelConfig
    from mpvit.report.results import PathView, Report

FOLDER = "mpvit-report"

Measure = Annotated[bool, typer.Option("--measure", help="Time the networks on this machine too: some 30 seconds.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="DIR", help=f"Write there. (default: {FOLDER}, with --from DIR itself)", show_default=False
    ),
]
StudyOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--study", metavar="STUDY", help="Also what mpvit ablate --train found there; repeatable.", show_default=False
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also what the paths of this trained network see, as mpvit paths.", show_default=False),
]
DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DATA", help="Pictures for --weights. (default: digits, where it knows them)", show_default=False
    ),
]
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="DIR", help="Draw an earlier report again from its JSON.", show_default=False),
]


def report(
    ctx: typer.Context,
    variant: options.Variants = None,
    config: options.Configs = None,
    size: options.Size = "224",
    measure: Measure = False,
    study: StudyOption = None,
    weights: Weights = None,
    data: DataOption = None,
    output: Folder = None,
    source: From = None,
) -> None:
    """Write one page about networks: what they cost, why tools disagree, attention, paths and layers.

    The folder gets report.html, which needs nothing else, report.md with its figures, and report.json with every number.
    A report is drawn from its JSON alone: --from counts and measures nothing again, and --study and --weights add to it.

    Examples:
      mpvit report --variant all -o report

      mpvit report --variant tiny,xsmall --size 800x1280 --measure -o report

      mpvit report --study mpvit-study --weights mpvit-run/weights.safetensors -o report
    """
    from mpvit.ablation.saved import read_study
    from mpvit.report.saved import read_report
    from mpvit.report.write import check_folder, write_report

    terminal: Terminal = ctx.obj
    folder = output or source or Path(FOLDER)
    interrupted = False
    if data and not weights:
        raise UsageError(f"--data {data}: must go with --weights", hint="the pictures that the network is shown")
    studies = tuple(found for each in study or () for found in read_study(each))
    if source:
        _check_alone(ctx)
        found = read_report(source)
        check_folder(folder)
        views = _path_views(terminal, weights, data)
    else:
        check_folder(folder)
        models = options.parse_models(variant, config)
        pixels = options.parse_size(size)
        views = _path_views(terminal, weights, data)
        found, interrupted = _collect(terminal, models, pixels, measure=measure)
    found = replace(found, studies=studies or found.studies, path_views=views or found.path_views)
    for path in write_report(found, folder):
        terminal.note(f"wrote {path}")
    if interrupted:
        raise typer.Exit(130)


def _check_alone(ctx: typer.Context) -> None:
    """Raise ``UsageError`` for an option that asks for other numbers than those of ``--from``."""
    for name in ("variant", "config", "size", "measure"):
        if options.given(ctx, name):
            raise UsageError(f"--{name} with --from: must be one of them", hint="--from draws the numbers that are there")


def _path_views(terminal: Terminal, weights: Path | None, data: str | None) -> "tuple[PathView, ...]":
    """Return the views of the paths of the network in ``weights``; none without a file."""
    if weights is None:
        return ()
    from mpvit.report.collect import path_views

    return path_views(weights, data, terminal.track)


def _collect(
    terminal: Terminal, models: "Mapping[str, ModelConfig]", size: tuple[int, int], *, measure: bool
) -> "tuple[Report, bool]":
    """Count, and measure if asked for; tell whether Ctrl-C ended that, which keeps what there was."""
    from mpvit.report.collect import benchmark, collect, with_times

    found = collect(models, size)
    if not measure:
        return found, False
    from mpvit.benchmark.measure import measure_networks
    from mpvit.benchmark.results import NetworkTime

    study = benchmark(models, size)
    groups: list[tuple[Result, ...]] = []
    interrupted = terminal.collect(measure_networks(study), "Measuring", len(study.groups), into=groups)
    return with_times(found, [time for group in groups for time in group if isinstance(time, NetworkTime)]), interrupted

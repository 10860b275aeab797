"""``mpvit report``: everything about networks on one page."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit_cli.options import conflict, option, requires
from mpvit_cli.options.networks import Networks, SizeOption
from mpvit_cli.options.values import parse_size
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.benchmark.results import Result
    from mpvit.report.results import PathView, Report

FOLDER = "mpvit-report"


class ReportOptions(Networks):
    """The networks and studies in the report, and its folder."""

    size: SizeOption = "224"
    measure: Annotated[bool, option("Time the networks on this machine too, for about 30 seconds.", "--measure")] = False
    study: Annotated[list[Path] | None, option("Folder of mpvit ablate --train to include; repeatable.", metavar="STUDY")] = (
        None
    )
    weights: Annotated[
        Path | None, option("Weights of a trained network whose paths are shown, as by mpvit paths.", metavar="FILE")
    ] = None
    data: Annotated[
        str | None, option("Images for --weights.", metavar="DATA", default="digits, if the network was trained on them")
    ] = None
    output: Annotated[
        Path | None, option("Folder to write.", "--output", "-o", metavar="DIR", default=f"{FOLDER}, or that of --from")
    ] = None
    source: Annotated[
        Path | None, option("Folder of an earlier report, which is drawn again from its JSON.", "--from", metavar="DIR")
    ] = None

    def check(self) -> None:
        """Raise ``UsageError`` for options that do not go together."""
        if self.data and not self.weights:
            raise requires(f"--data {self.data}", "--weights", hint="they are the images that the network is shown")
        for name in ("variant", "config", "size", "measure"):
            if self.source and self.given(name):
                raise conflict(self.flag(name), "--from", hint="--from draws the numbers of the earlier report")


def report(terminal: Terminal, options: ReportOptions) -> None:
    """Write one page about networks: their cost, why tools disagree, attention, paths and layers.

    The folder gets report.html, a single file, report.md with its figures, and report.json with every number. A report is drawn
    from its JSON: --from counts and measures nothing again, and --study and --weights add to it.

    Examples:
      mpvit report --variant all -o report

      mpvit report --variant tiny,xsmall --size 800x1280 --measure -o report

      mpvit report --study mpvit-study --weights mpvit-run/weights.safetensors -o report
    """
    from mpvit.ablation.saved import read_study
    from mpvit.report.saved import read_report
    from mpvit.report.write import check_folder, write_report

    folder = options.output or options.source or Path(FOLDER)
    studies = tuple(found for each in options.study or () for found in read_study(each))
    found = read_report(options.source) if options.source else None
    check_folder(folder)
    views = _path_views(terminal, options)
    interrupted = False
    if found is None:
        found, interrupted = _collect(terminal, options)
    found = replace(found, studies=studies or found.studies, path_views=views or found.path_views)
    for path in write_report(found, folder):
        terminal.note(f"wrote {path}")
    if interrupted:
        raise typer.Exit(130)


def _path_views(terminal: Terminal, options: ReportOptions) -> "tuple[PathView, ...]":
    if options.weights is None:
        return ()
    from mpvit.report.collect import path_views

    return path_views(options.weights, options.data, terminal.track)


def _collect(terminal: Terminal, options: ReportOptions) -> "tuple[Report, bool]":
    """Count, and measure if asked for; tell whether Ctrl-C interrupted the measurement, which keeps what was measured."""
    from mpvit.report.collect import benchmark, collect, with_times

    models, size = options.configs(), parse_size(options.size)
    found = collect(models, size)
    if not options.measure:
        return found, False
    from mpvit.benchmark.measure import measure_networks
    from mpvit.benchmark.results import NetworkTime

    study = benchmark(models, size)
    groups: list[tuple[Result, ...]] = []
    interrupted = terminal.collect(measure_networks(study), "Measuring", len(study.groups), into=groups)
    return with_times(found, [time for group in groups for time in group if isinstance(time, NetworkTime)]), interrupted

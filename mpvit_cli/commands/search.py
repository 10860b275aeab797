"""``mpvit search``: the networks of a stated space that are within limits."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.config import save_config
from mpvit.errors import UsageError
from mpvit.network import NamedNetwork
from mpvit.search.criteria import CRITERIA, Limits
from mpvit.search.examine import Batch, examine, examine_without_limits
from mpvit.search.results import SearchResult, nothing_within_limits, search_result
from mpvit.search.space import DEFAULT, Space, choices_text, parse_choices, shape_text
from mpvit.search.study import SearchStudy
from mpvit.tables.search import search_document
from mpvit.units import parse_ratio, parse_whole
from mpvit_cli import options, studies
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.benchmark.results import Result
    from mpvit.measurement import Measurement
    from mpvit.measurement.options import TimingOptions
    from mpvit.training.data.splits import Data
    from mpvit.training.study import StudyConfig

_SHOWN_NETWORKS = 2_000_000
"""From which on a search takes long enough for a progress bar."""

_PART = 4
"""A trial takes one of so many parts of the recipe's epochs."""

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

MaxMacs = Annotated[
    str | None, typer.Option(metavar="3G", help="Most multiply-adds for one image; k, M, G and T are read.", show_default=False)
]
MaxParams = Annotated[str | None, typer.Option(metavar="11M", help="Most parameters, likewise.", show_default=False)]
MaxLatency = Annotated[
    str | None,
    typer.Option(
        metavar="20ms",
        help="Time the --top candidates at batch 1 on this machine and say which are within this; in us, ms or s.",
        show_default=False,
    ),
]
RankBy = Annotated[
    str,
    typer.Option(
        "--criterion",
        metavar="|".join(CRITERIA),
        help="What they are ranked by: " + "; ".join(f"{name}: {each.what}" for name, each in CRITERIA.items()) + ".",
        autocompletion=options.complete(CRITERIA),
    ),
]
Top = Annotated[
    int | None, typer.Option(parser=options.whole, metavar="N", help="Candidates kept. (default: 20, with --train 5)")
]
Save = Annotated[
    Path | None,
    typer.Option(metavar="FILE.toml", help="Write the best candidate there, for --config of any command.", show_default=False),
]
Pick = Annotated[
    int | None,
    typer.Option(parser=options.whole, metavar="N", help="Save the candidate #N instead of the best.", show_default=False),
]


TrainOn = Annotated[str | None, studies.train_on("the --top candidates")]
Epochs = Annotated[int | None, studies.epochs_of_each("a quarter of the recipe's")]
Output = Annotated[Path | None, studies.study_folder("Write there, whole or not at all")]


def _choices(option: str, field: str, what: str) -> object:
    text = choices_text(DEFAULT.choices()[field])
    help_text = f"{what}: choices joined by commas, for each stage the same or its own, joined by /. (default: {text})"
    return typer.Option(option, metavar="CHOICES", help=help_text, show_default=False)


Paths = Annotated[str | None, _choices("--paths", "paths", "Parallel paths")]
Layers = Annotated[str | None, _choices("--layers", "layers", "Layers of each path")]
Width = Annotated[str | None, _choices("--width", "dim", "Channels")]
MlpRatio = Annotated[str | None, _choices("--mlp-ratio", "mlp_ratio", "MLP's hidden channels over channels")]
Heads = Annotated[str | None, _choices("--heads", "heads", "Attention heads")]


def search(
    ctx: typer.Context,
    max_macs: MaxMacs = None,
    max_params: MaxParams = None,
    max_latency: MaxLatency = None,
    paths: Paths = None,
    layers: Layers = None,
    width: Width = None,
    mlp_ratio: MlpRatio = None,
    heads: Heads = None,
    criterion: RankBy = "budget",
    top: Top = None,
    size: options.Size = "224",
    convention: options.Convention = "fvcore",
    save: Save = None,
    pick: Pick = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    min_time: options.MinTime = 1.0,
    train: TrainOn = None,
    seeds: studies.Seeds = 3,
    epochs: Epochs = None,
    recipe: options.Recipe = None,
    setting: options.Setting = None,
    jobs: studies.Jobs = 1,
    plot: options.Plot = None,
    form: options.Format = None,
    output: Output = None,
) -> None:
    """Count every network of a stated space, keep those within the limits and rank them; beside the published variants.

    No row says how accurate a network would be: ranked is how it uses the limits. Each stage takes its choices by itself,
    but none is narrower than the one before. With --train the candidates are trained alike with a small budget, and ranked
    by what they come to.

    Examples:
      mpvit search --max-macs 3G --max-params 11M --plot front.svg

      mpvit search --max-macs 2G --paths 1/2/2,3/3 --width 64/96,128/192,224/256 --criterion params --save found.toml

      mpvit search --train digits --top 3 --max-macs 4M --width 16,24/24,32/32,48/48,64 --paths 1,2 --layers 1 --heads 4
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    kept = top if top is not None else 5 if train else 20
    _check_pick(pick, save, kept)
    studies.require_data(ctx, train)
    asked = size if options.given(ctx, "size") else None
    training = (
        studies.parse_training(train, recipe, epochs, setting, seeds, jobs, device, output, size=asked, part=_PART)
        if train
        else None
    )
    data = studies.open_study(terminal, train, threads) if train else None
    study = SearchStudy(
        space=_space(paths=paths, layers=layers, dim=width, mlp_ratio=mlp_ratio, heads=heads),
        limits=Limits(_amount("--max-macs", max_macs), _amount("--max-params", max_params)),
        criterion=criterion,
        top=kept,
        size=options.parse_size(size) if training is None else (training.recipe.size, training.recipe.size),
        convention=convention,
        **({"classes": len(data.classes)} if data else {}),
    )
    limit_s = None if max_latency is None else parse_seconds(max_latency)
    timing = None
    if limit_s is not None:
        from mpvit.measurement.options import TimingOptions

        timing = TimingOptions(device=device, dtype=dtype, threads=threads, min_time_s=min_time)
    found = _found(terminal, study)
    times, interrupted = _timed(terminal, found, timing) if timing and found.finished else ((), not found.finished)
    found = replace(found, max_latency_s=limit_s, times=tuple(times))
    if training and data and found.candidates and not interrupted:
        found = _trained(terminal, found, training, data)
    document = search_document(found)
    terminal.show(document, form, None if training else output)
    if training:
        studies.keep(terminal, document, training)
    if plot:
        from mpvit.plots.search import search_figure

        terminal.save(search_figure(found), plot)
    if save and found.candidates and (picked := found.best if pick is None else found.pick(pick)):
        save_config(picked.candidate.config, save)
        terminal.note(f"wrote {save}: #{picked.rank}, {shape_text(picked.candidate.config)}")
    if interrupted:
        raise typer.Exit(130)
    if limit_s is not None and not any(row.within for row in found.ranked):
        raise found.too_slow()


def _check_pick(pick: int | None, save: Path | None, top: int) -> None:
    """Raise ``UsageError`` for a candidate that goes nowhere or that there is not."""
    if pick is not None and not save:
        raise UsageError(f"--pick {pick}: must go with --save", hint="--save FILE.toml")
    if pick is not None and not 1 <= pick <= top:
        raise UsageError(f"--pick {pick}: must be from 1 to --top {top}")


def _trained(terminal: Terminal, found: SearchResult, training: "StudyConfig", data: "Data") -> SearchResult:
    """Return the result with the accuracies of the candidates."""
    from mpvit.search.training import train_candidates

    trained = studies.learned(terminal, training, lambda show: train_candidates(found, data, training, show))
    return replace(found, trained=trained)


def _space(**given: str | None) -> Space:
    """Return the space with the choices that are given for each field of a stage."""
    options_of = {"dim": "--width", "mlp_ratio": "--mlp-ratio"}
    choices = {}
    for name, text in given.items():
        if text is not None:
            try:
                choices[name] = parse_choices(text, parse_ratio if name == "mlp_ratio" else parse_whole)
            except UsageError as error:
                raise UsageError(f"{options_of.get(name, f'--{name}')} {error}", hint=error.hint) from None
    return Space(**choices)


def _found(terminal: Terminal, study: SearchStudy) -> SearchResult:
    """Return what there is within the limits, so far as Ctrl-C lets it; raise ``MpvitError`` where there is nothing."""
    shown, terminal.progress = terminal.progress, terminal.progress and study.networks >= _SHOWN_NETWORKS
    batches: list[Batch] = []
    interrupted = terminal.collect(examine(study), "Searching", study.batches, into=batches)
    if not interrupted and not any(batch.kept for batch in batches):
        batches.clear()
        terminal.collect(examine_without_limits(study), "Looking for the nearest", study.batches, into=batches)
        raise nothing_within_limits(study, batches)
    terminal.progress = shown
    return search_result(study, batches)


def _timed(terminal: Terminal, found: SearchResult, timing: "TimingOptions") -> "tuple[list[Measurement], bool]":
    """Return the times of the candidates, the best first, and whether Ctrl-C ended that."""
    from mpvit.benchmark.measure import measure_networks
    from mpvit.benchmark.study import BenchmarkStudy

    size = found.study.size
    networks = tuple(NamedNetwork(f"#{number}", each.config, size) for number, each in enumerate(found.candidates, start=1))
    study = BenchmarkStudy(networks=networks, timing=timing)
    groups: list[tuple[Result, ...]] = []
    try:
        interrupted = terminal.collect(measure_networks(study), "Measuring", len(study.groups), into=groups)
    except KeyboardInterrupt:  # before the first was timed: what was searched is still there
        interrupted = True
    return [group[0].timed.measurement for group in groups], interrupted


def _amount(option: str, text: str | None) -> int | None:
    return None if text is None else options.parse_amount(option, text)


def parse_seconds(text: str) -> float:
    """Read "20ms", "1.5s" or "800us" as seconds; raise ``UsageError`` for anything else."""
    found = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(us|ms|s)\s*", text.lower())
    if not found or not float(found[1]):
        units = ", ".join(_SECONDS)
        raise UsageError(
            f"--max-latency {text[:40]!r}: must be a number above 0 and a unit: {units}", hint="for example --max-latency 20ms"
        )
    return float(found[1]) * _SECONDS[found[2]]

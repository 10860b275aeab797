"""``mpvit search``: the networks of a search space that meet limits."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpvit.architecture.config import save_config
from mpvit.errors import UsageError
from mpvit.measurement import Measurement
from mpvit.measurement.options import TimingOptions
from mpvit.network import NamedNetwork
from mpvit.search.criteria import CRITERIA, Limits
from mpvit.search.examine import Batch, examine, examine_without_limits
from mpvit.search.results import SearchResult, nothing_within_limits, search_result
from mpvit.search.space import DEFAULT, Space, choices_text, parse_choices, shape_text
from mpvit.search.study import SearchStudy
from mpvit.tables.search import search_document
from mpvit.units import parse_ratio, parse_whole
from mpvit_cli.options import Options, option, requires
from mpvit_cli.options.networks import ConventionOption, SizeOption
from mpvit_cli.options.studies import StudyAnswer, StudyOptions, epochs_option, keep, run_study, train_option
from mpvit_cli.options.values import parse_amount, parse_seconds, parse_size, whole
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.benchmark.results import Result
    from mpvit.training.data.splits import Data
    from mpvit.training.study import StudyConfig

_NETWORKS_WITHOUT_PROGRESS = 2_000_000
"""Number of networks that are searched without a progress bar."""

_SHARE_OF_EPOCHS = 4
"""A candidate is trained for one part of this many of the recipe's epochs."""


def _choices(field: str, what: str) -> Any:  # noqa: ANN401 - what Typer returns
    return option(
        f"Choices of {what}, comma-separated: the same for each stage, or one list per stage joined by /.",
        metavar="CHOICES",
        default=choices_text(DEFAULT.choices()[field]),
    )


class Constraints(Options):
    """Limits of the networks."""

    max_macs: Annotated[str | None, option("Maximum multiply-adds for one image, such as 3G.", metavar="NUMBER")] = None
    max_params: Annotated[str | None, option("Maximum parameters, such as 11M.", metavar="NUMBER")] = None
    max_latency: Annotated[
        str | None,
        option("Maximum latency at batch 1, such as 20ms; the --top candidates are timed on this machine.", metavar="TIME"),
    ] = None

    def limits(self) -> Limits:
        """Return the limits that are known in closed form."""
        return Limits(*(None if text is None else parse_amount(flag, text) for flag, text in self._amounts()))

    @property
    def max_latency_s(self) -> float | None:
        """The maximum latency in seconds."""
        return None if self.max_latency is None else parse_seconds("--max-latency", self.max_latency)

    def _amounts(self) -> tuple[tuple[str, str | None], ...]:
        return ("--max-macs", self.max_macs), ("--max-params", self.max_params)


class SearchSpace(Options):
    """The choices of each stage."""

    paths: Annotated[str | None, _choices("paths", "the number of parallel paths")] = None
    layers: Annotated[str | None, _choices("layers", "the layers of each path")] = None
    width: Annotated[str | None, _choices("dim", "the channels")] = None
    mlp_ratio: Annotated[str | None, _choices("mlp_ratio", "the MLP's hidden channels over channels")] = None
    heads: Annotated[str | None, _choices("heads", "the attention heads")] = None

    def space(self) -> Space:
        """Return the search space."""
        given = {"paths": "paths", "layers": "layers", "dim": "width", "mlp_ratio": "mlp_ratio", "heads": "heads"}
        choices = {}
        for field, name in given.items():
            if (text := getattr(self, name)) is not None:
                try:
                    choices[field] = parse_choices(text, parse_ratio if field == "mlp_ratio" else parse_whole)
                except UsageError as error:
                    raise UsageError(f"{self.flag(name)} {error}", hint=error.hint) from None
        return Space(**choices)


class Ranking(Options):
    """Ranking of the networks, and the candidate that is saved."""

    criterion: Annotated[
        str,
        option(
            "Criterion of the ranking: " + "; ".join(f"{name}: {each.what}" for name, each in CRITERIA.items()) + ".",
            choices=CRITERIA,
        ),
    ] = "budget"
    top: Annotated[int | None, option("Candidates to keep.", parser=whole, metavar="N", default="20, with --train 5")] = None
    size: SizeOption = "224"
    convention: ConventionOption = "fvcore"
    save: Annotated[
        Path | None,
        option("File for the configuration of the best candidate, for --config of any command.", metavar="FILE.toml"),
    ] = None
    pick: Annotated[int | None, option("Number of the candidate to save.", parser=whole, metavar="N", default="the best")] = (
        None
    )

    def kept(self, *, trained: bool) -> int:
        """Return the number of candidates to keep; raise ``UsageError`` for a candidate to save that there is not."""
        kept = self.top if self.top is not None else 5 if trained else 20
        if self.pick is not None and not self.save:
            raise requires(f"--pick {self.pick}", "--save", hint="--save FILE.toml")
        if self.pick is not None and not 1 <= self.pick <= kept:
            raise UsageError(f"--pick {self.pick}: must be from 1 to --top {kept}")
        return kept

    def study(self, space: Space, limits: Limits, top: int, size: tuple[int, int]) -> SearchStudy:
        """Return the study of a space, with images of (height, width) pixels."""
        return SearchStudy(space=space, limits=limits, top=top, size=size, criterion=self.criterion, convention=self.convention)


class CandidateStudy(StudyOptions):
    """Timing or training of the candidates."""

    train: Annotated[str | None, train_option("each of the --top candidates")] = None
    epochs: Annotated[int | None, epochs_option("a quarter of those of the recipe")] = None


def search(
    terminal: Terminal,
    constraints: Constraints,
    space: SearchSpace,
    ranking: Ranking,
    training: CandidateStudy,
    answer: StudyAnswer,
) -> None:
    """Count every network of a search space, keep those within the limits, rank them and compare them with the variants.

    The ranking shows how well a network uses the limits, not how accurate it would be. Each stage has its own choices, but no
    stage is narrower than the one before. With --train the candidates are trained alike for a short time and ranked by
    accuracy.

    Examples:
      mpvit search --max-macs 3G --max-params 11M --plot front.svg

      mpvit search --max-macs 2G --paths 1/2/2,3/3 --width 64/96,128/192,224/256 --criterion params --save found.toml

      mpvit search --train digits --top 3 --max-macs 4M --width 16,24/24,32/32,48/48,64 --paths 1,2 --layers 1 --heads 4
    """
    kept, limit_s = ranking.kept(trained=training.train is not None), constraints.max_latency_s
    config = training.study(answer.output, ranking.size if ranking.given("size") else None, share=_SHARE_OF_EPOCHS)
    data = training.open_data(terminal) if config else None
    size = (config.recipe.size, config.recipe.size) if config else parse_size(ranking.size)
    study = ranking.study(space.space(), constraints.limits(), kept, size)
    if data:
        study = replace(study, classes=len(data.classes))
    timing = None if limit_s is None else training.options()
    found = _found(terminal, study)
    times, interrupted = _timed(terminal, found, timing) if timing and found.finished else ((), not found.finished)
    found = replace(found, max_latency_s=limit_s, times=tuple(times))
    if config and data and found.candidates and not interrupted:
        found = _trained(terminal, found, config, data)
    _show(terminal, found, config, answer)
    _save(terminal, found, ranking)
    if interrupted:
        raise typer.Exit(130)
    if limit_s is not None and not any(row.within for row in found.ranked):
        raise found.too_slow()


def _show(terminal: Terminal, found: SearchResult, config: "StudyConfig | None", answer: StudyAnswer) -> None:
    document = search_document(found)
    terminal.show(document, answer.form, None if config else answer.output)
    if config:
        keep(terminal, document, config)
    answer.draw(terminal, "mpvit.plots.search:search_figure", found)


def _save(terminal: Terminal, found: SearchResult, ranking: Ranking) -> None:
    if not (ranking.save and found.candidates):
        return
    if picked := found.best if ranking.pick is None else found.pick(ranking.pick):
        save_config(picked.candidate.config, ranking.save)
        terminal.note(f"wrote {ranking.save}: #{picked.rank}, {shape_text(picked.candidate.config)}")


def _found(terminal: Terminal, study: SearchStudy) -> SearchResult:
    """Return the networks within the limits that were found until Ctrl-C; raise ``MpvitError`` if there is none."""
    shown, terminal.progress = terminal.progress, terminal.progress and study.networks >= _NETWORKS_WITHOUT_PROGRESS
    batches: list[Batch] = []
    interrupted = terminal.collect(examine(study), "Searching", study.batches, into=batches)
    if not interrupted and not any(batch.kept for batch in batches):
        batches.clear()
        terminal.collect(examine_without_limits(study), "Looking for the nearest", study.batches, into=batches)
        raise nothing_within_limits(study, batches)
    terminal.progress = shown
    return search_result(study, batches)


def _timed(terminal: Terminal, found: SearchResult, timing: "TimingOptions") -> "tuple[list[Measurement], bool]":
    """Return the times of the candidates, the best first, and whether Ctrl-C interrupted the measurement."""
    from mpvit.benchmark.measure import measure_networks
    from mpvit.benchmark.study import BenchmarkStudy

    size = found.study.size
    networks = tuple(NamedNetwork(f"#{number}", each.config, size) for number, each in enumerate(found.candidates, start=1))
    study = BenchmarkStudy(networks=networks, timing=timing)
    groups: list[tuple[Result, ...]] = []
    try:
        interrupted = terminal.collect(measure_networks(study), "Measuring", len(study.groups), into=groups)
    except KeyboardInterrupt:  # before the first measurement: the result of the search is still there
        interrupted = True
    return [group[0].timed.measurement for group in groups], interrupted


def _trained(terminal: Terminal, found: SearchResult, config: "StudyConfig", data: "Data") -> SearchResult:
    from mpvit.search.training import train_candidates

    trained = run_study(terminal, config, lambda show: train_candidates(found, data, config, show))
    return replace(found, trained=trained)

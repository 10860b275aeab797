"""``mpvit bench``: speed of networks on this machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.benchmark.modes import INFERENCE_ONLY, LIBRARIES, MODES, PARTS
from mpvit.imports import require
from mpvit.measurement.options import DTYPES, TF32, TimingOptions
from mpvit.network import NamedNetwork
from mpvit_cli.options import Options, option
from mpvit_cli.options.answer import Format, Plot
from mpvit_cli.options.machine import BackwardOption, Timing
from mpvit_cli.options.networks import Networks, SizeOption, TaskNumbers, TaskOption
from mpvit_cli.options.values import ALL, number, parse_names, parse_size, parse_wholes
from mpvit_cli.output import Terminal

if TYPE_CHECKING:
    from mpvit.benchmark.results import Result


class OneTask(Options):
    """The detector or segmenter on each network."""

    task: TaskOption = None


class Timed(TaskNumbers, OneTask, Networks):
    """The networks that are timed, and the batches of images that they get."""

    size: SizeOption = "224"
    batch: Annotated[str, option("Batch sizes, each measured separately; with --task the default is 1.", metavar="N,N,...")] = (
        "1,8,32"
    )

    def named(self) -> tuple[NamedNetwork, ...]:
        """Return the networks, at the size of the task unless one is chosen."""
        (task,) = self.tasks([self.task] if self.task else []) or (None,)
        size = task.size if task and not self.chosen("size") else parse_size(self.size)
        return tuple(NamedNetwork(name, config, size, task) for name, config in self.configs().items())

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes."""
        return (1,) if self.task and not self.given("batch") else parse_wholes("--batch", self.batch)


class Benchmark(Timing):
    """Modes of running, the machine, and the parts that are timed."""

    dtype: Annotated[str, option("Dtype of weights and inputs; tf32 on CUDA only.", choices=(*DTYPES, TF32))] = "float32"
    mode: Annotated[
        list[str] | None,
        option(
            f"How networks run: {', '.join(MODES)} or all; repeatable. Speed-ups are over the first mode.",
            metavar="NAME|all",
            choices=[ALL, *MODES],
            default="plain",
        ),
    ] = None
    backward: BackwardOption = False
    min_time: Annotated[
        float, option("Minimum total time of the samples of a network, in seconds.", parser=number, metavar="SECONDS")
    ] = 2.0
    budget: Annotated[
        float | None, option("Maximum time of the whole run, in seconds.", parser=number, metavar="SECONDS", default="no limit")
    ] = None
    by: Annotated[str, option("Time the whole network, or each layer too.", choices=PARTS)] = "network"

    def modes(self, *, of_task: bool) -> tuple[str, ...]:
        """Return the modes; of all modes, those that cannot run here report it and the others go on."""
        possible = [name for name in MODES if name not in INFERENCE_ONLY or not (of_task or self.backward)]
        modes = parse_names(self.mode, possible, ["plain"])
        if ALL not in (self.mode or ()):
            require(*(library for name in modes if name in MODES for library in LIBRARIES[MODES[name].engine]))
        return tuple(modes)

    def options(self) -> TimingOptions:
        """Return them as the library takes them."""
        return TimingOptions(
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            backward=self.backward,
            min_time_s=self.min_time,
            budget_s=self.budget,
        )


class Answers(Plot, Format):
    """The answer, in one or several files, and an earlier run to compare with."""

    output: Annotated[
        list[Path] | None,
        option("File for the answer, written completely or not at all; repeatable.", "--output", "-o", metavar="FILE"),
    ] = None
    compare: Annotated[
        Path | None, option("Result of an earlier run with -o, over which speed-ups are shown.", metavar="FILE.json")
    ] = None


def bench(terminal: Terminal, networks: Timed, benchmark: Benchmark, answer: Answers) -> None:
    """Measure latency, throughput and peak memory, and compare them with the ceilings of this machine.

    The modes of a network are interleaved and their outputs are compared. JSON has all samples. A run that is interrupted or
    runs out of memory shows what it has measured.

    Examples:
      mpvit bench --variant xsmall --mode plain,fused --batch 1,8

      mpvit bench --variant tiny --mode all --plot roofline.svg -o tiny.json

      mpvit bench --variant tiny --task semantic-fpn --size 256
    """
    from mpvit.benchmark import baseline
    from mpvit.benchmark.measure import measure_networks
    from mpvit.benchmark.study import BenchmarkStudy
    from mpvit.tables.benchmark import benchmark_document

    named = networks.named()
    modes = benchmark.modes(of_task=bool(networks.task))
    study = BenchmarkStudy(networks=named, batches=networks.batches, modes=modes, by=benchmark.by, timing=benchmark.options())
    earlier = baseline.read_baseline(answer.compare, study) if answer.compare else None
    groups: list[tuple[Result, ...]] = []
    interrupted = terminal.collect(measure_networks(study), "Measuring", len(study.groups), into=groups)
    results = [baseline.compared(result, earlier) for group in groups for result in group]
    document = benchmark_document(study, results, earlier)
    for path in answer.output or (None,):
        terminal.show(document, answer.form, path)
    answer.draw(terminal, "mpvit.plots.roofline:roofline_figure", results)
    if interrupted:
        raise typer.Exit(130)
    if any(result.timed.measurement.failed for result in results):
        raise typer.Exit(1)

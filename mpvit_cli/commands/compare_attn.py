"""``mpvit compare-attn``: kinds of attention as the number of tokens grows."""

from typing import Annotated, NamedTuple

import typer

from mpvit.architecture.config import ModelConfig
from mpvit.attention import KINDS, Sizes
from mpvit.compare_attention.costs import CROSSING, attention_cost, stage_sizes, stage_tokens, sweep, sweep_tokens
from mpvit.compare_attention.results import AttentionPoint
from mpvit.dense import get_tasks, label
from mpvit.errors import UsageError
from mpvit.measurement.options import TimingOptions
from mpvit.tables import Document
from mpvit.tables.attention import attention_document, task_document
from mpvit.tables.attention_measured import measured_document, numerics_document
from mpvit_cli.options import Options, conflict, option
from mpvit_cli.options.answer import PlottedAnswer
from mpvit_cli.options.machine import BackwardOption, MachineOptions
from mpvit_cli.options.networks import OneNetwork, TaskOption, without_task
from mpvit_cli.options.values import ALL, number, parse_bytes, parse_names, parse_range, parse_size, whole
from mpvit_cli.output import Terminal

_MEASURED_TOKENS = (64, 65_536)
_NUMERICS_TOKENS = (64, 4096)


class AttentionOptions(OneNetwork):
    """The kinds of attention, the sizes that they run at, and the numbers of tokens."""

    tokens: Annotated[int, option("Number of tokens, N.", parser=whole, metavar="N")] = 3136
    stage: Annotated[int, option("Stage of the network that sets channels and heads.", parser=whole, metavar="2..5")] = 2
    dim: Annotated[int | None, option("Channels, C.", parser=whole, metavar="C", default="those of --stage")] = None
    heads: Annotated[int | None, option("Attention heads.", parser=whole, metavar="H", default="those of --stage")] = None
    kind: Annotated[
        list[str] | None,
        option(
            f"Kind of attention: {', '.join(KINDS)}; a number follows a colon, as in linformer:128; repeatable.",
            metavar="NAME|all",
            choices=[ALL, *KINDS],
            default="all",
        ),
    ] = None
    swept: Annotated[
        str | None, option("Range of the number of tokens.", "--sweep", metavar="FIRST..LAST", default="N/64..64N")
    ] = None

    @property
    def kinds(self) -> list[str]:
        """The names of the kinds."""
        return parse_names(self.kind, KINDS, [ALL])


class OnTask(Options):
    """A detector or segmenter whose numbers of tokens are compared."""

    task: TaskOption = None
    size: Annotated[
        str | None,
        option("Image size of --task in pixels: one side, or HEIGHTxWIDTH.", metavar="PIXELS", default="as published"),
    ] = None
    memory: Annotated[
        str | None,
        option("Memory that the tensors of one attention of --task must fit into.", metavar="BYTES", default="80GiB"),
    ] = None


class Measuring(MachineOptions):
    """Measurements instead of closed-form costs."""

    measure: Annotated[bool, option("Time the kinds on this machine instead of counting.", "--measure")] = False
    backward: BackwardOption = False
    budget: Annotated[float, option("Maximum time of all measurements, in seconds.", parser=number, metavar="SECONDS")] = 60.0
    numerics: Annotated[
        bool, option("Show rounding errors in half precision and implied attention maps instead of costs.", "--numerics")
    ] = False

    def check(self) -> None:
        """Raise ``UsageError`` for two kinds of measurement."""
        if self.measure and self.numerics:
            raise conflict("--measure", "--numerics")

    def options(self) -> "TimingOptions":
        """Return them as the library takes them."""
        from mpvit.compare_attention.measure import MIN_TIME_S
        from mpvit.measurement.options import TimingOptions

        return TimingOptions(
            device=self.device,
            dtype=self.dtype,
            threads=self.threads,
            backward=self.backward,
            min_time_s=MIN_TIME_S,
            budget_s=self.budget,
        )


def compare_attn(
    terminal: Terminal, attention: AttentionOptions, on_task: OnTask, measuring: Measuring, answer: PlottedAnswer
) -> None:
    """Compare the kinds of attention at N tokens and as N grows, in closed form or measured.

    Factorized attention costs 2·N·C·d multiply-adds, full softmax attention 2·N²·C: the first is linear in N.

    Examples:
      mpvit compare-attn --tokens 3136

      mpvit compare-attn --task retinanet --variant small

      mpvit compare-attn --measure --kind softmax,sdpa,factorized --plot growth.svg
    """
    name, network = attention.network()
    if any(each is not None for each in (on_task.task, on_task.size, on_task.memory)):
        answer.show(terminal, _task_document(name, network, attention, on_task, measuring, answer))
        return
    kinds, tokens = attention.kinds, attention.tokens
    sizes = stage_sizes(network, attention.stage, tokens, dim=attention.dim, heads=attention.heads)
    ends = _MEASURED_TOKENS if measuring.measure else _NUMERICS_TOKENS if measuring.numerics else ()
    swept = _Sweep(kinds, sizes, sweep_tokens(tokens, *(parse_range(attention.swept) if attention.swept else ends)))
    points: list[AttentionPoint] = []
    interrupted = False
    if measuring.numerics:
        document = _numerics_document(swept)
    elif measuring.measure:
        document, interrupted = _measured_document(terminal, swept, measuring.options(), points)
    else:
        at_sizes = stage_tokens(network) if attention.dim is None else []
        growing = sweep(kinds if attention.kind else CROSSING, sizes, swept.tokens)
        document = attention_document([attention_cost(kind, sizes) for kind in kinds], growing, at_sizes, name)
    answer.show(terminal, document)
    if answer.plot:
        answer.draw(terminal, "mpvit.plots.attention:attention_figure", sweep(*swept), points)
    if interrupted:
        raise typer.Exit(130)


def _task_document(
    name: str, network: ModelConfig, attention: AttentionOptions, on_task: OnTask, measuring: Measuring, answer: PlottedAnswer
) -> Document:
    if on_task.task is None:
        raise without_task("--memory" if on_task.size is None else "--size")
    hint = "a task has the tokens, channels and heads of its stages, and its attention is counted"
    for group, names in (
        (attention, ("tokens", "stage", "dim", "heads", "swept")),
        (measuring, ("measure", "backward", "device", "dtype", "threads", "budget", "numerics")),
        (answer, ("plot",)),
    ):
        for each in names:
            if group.given(each):
                raise conflict(group.flag(each), "--task", hint=hint)
    (task,) = get_tasks([on_task.task])
    size = task.size if on_task.size is None else parse_size(on_task.size)
    memory = parse_bytes("--memory", on_task.memory or "80GiB")
    if memory < 1:
        raise UsageError(f"--memory {on_task.memory}: must be at least 1 byte")
    return task_document(stage_tokens(network, [size], attention.kinds), label(name, task), memory)


class _Sweep(NamedTuple):
    """The kinds, the sizes apart from the tokens, and the numbers of tokens."""

    kinds: list[str]
    sizes: Sizes
    tokens: list[int]


def _numerics_document(swept: _Sweep) -> Document:
    from mpvit.compare_attention.numerics import implied_maps, rounding_errors

    every_other = swept.tokens[::2]
    return numerics_document(rounding_errors(swept.kinds, swept.sizes, every_other), implied_maps(swept.sizes))


def _measured_document(
    terminal: Terminal, swept: _Sweep, timing: "TimingOptions", points: list[AttentionPoint]
) -> tuple[Document, bool]:
    """Measure into ``points``; tell whether Ctrl-C interrupted it."""
    from mpvit.compare_attention.fits import crossings, growths
    from mpvit.compare_attention.measure import measure_attention

    total = len(swept.kinds) * len(swept.tokens)
    interrupted = terminal.collect(measure_attention(*swept, timing), "Measuring", total, into=points)
    return measured_document(points, growths(points), crossings(points)), interrupted

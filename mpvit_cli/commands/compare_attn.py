"""``mpvit compare-attn``: attention as the number of tokens grows."""

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from mpvit.attention import KINDS, Sizes
from mpvit.compare_attention.costs import CROSSING, attention_costs, met_tokens, stage_sizes, sweep, sweep_tokens, tokens_at
from mpvit.compare_attention.results import AttentionPoint
from mpvit.config import ModelConfig
from mpvit.dense import label
from mpvit.errors import UsageError
from mpvit.tables import Document
from mpvit.tables.attention import attention_document, task_document
from mpvit.tables.attention_measured import measured_document, numerics_document
from mpvit_cli import options, tasks
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.measurement.options import TimingOptions

_MEASURED_TOKENS = (64, 65_536)
_NUMERICS_TOKENS = (64, 4096)

Tokens = Annotated[int, typer.Option(parser=options.whole, metavar="N", help="Number of tokens.")]
Stage = Annotated[
    int, typer.Option(parser=options.whole, metavar="2..5", help="Stage of the network whose channels and heads are taken.")
]
Dim = Annotated[
    int | None, typer.Option(parser=options.whole, metavar="C", help="Channels, instead of a stage's.", show_default=False)
]
Heads = Annotated[
    int | None, typer.Option(parser=options.whole, metavar="H", help="Heads, instead of a stage's.", show_default=False)
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="NAME|all",
        help=f"Kinds of attention: {', '.join(KINDS)}; repeatable; a number as in linformer:128. (default: all)",
        autocompletion=options.complete([options.ALL, *KINDS]),
        show_default=False,
    ),
]
Sweep = Annotated[
    str | None,
    typer.Option("--sweep", metavar="FIRST..LAST", help="Range of N. (default: N/64..64N)", show_default=False),
]
Measure = Annotated[bool, typer.Option("--measure", help="Time the kinds on this machine instead of counting.")]
Budget = Annotated[float, typer.Option(parser=options.number, metavar="SECONDS", help="Longest time to measure for.")]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS", help="Image size of --task: one side, or HEIGHTxWIDTH. (default: the task's)", show_default=False
    ),
]
Memory = Annotated[
    str | None,
    typer.Option(metavar="24GiB", help="What a tensor of --task must fit into. (default: 80GiB)", show_default=False),
]
Numerics = Annotated[bool, typer.Option("--numerics", help="Errors in half precision and implied maps instead of costs.")]


def compare_attn(
    ctx: typer.Context,
    tokens: Tokens = 3136,
    variant: options.Variant = None,
    config: options.Config = None,
    stage: Stage = 2,
    dim: Dim = None,
    heads: Heads = None,
    kind: Kinds = None,
    swept: Sweep = None,
    task: tasks.Task = None,
    size: Size = None,
    memory: Memory = None,
    measure: Measure = False,
    backward: options.Backward = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    budget: Budget = 60.0,
    numerics: Numerics = False,
    plot: options.Plot = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Compare the kinds of attention at N tokens and as N grows, in closed form or measured.

    Factorized attention costs 2·N·C·d multiply-adds, full softmax attention 2·N²·C: the first is linear in N.

    Examples:
      mpvit compare-attn --tokens 3136

      mpvit compare-attn --task retinanet --variant small

      mpvit compare-attn --measure --kind softmax,sdpa,factorized --plot growth.svg
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    if measure and numerics:
        raise UsageError("--measure with --numerics: must be one of them")
    name, network = options.parse_model(ctx, variant, config)
    if any(each is not None for each in (task, size, memory)):
        terminal.show(_of_task(ctx, name, network, kind, task, size, memory), form, output)
        return
    sizes = stage_sizes(network, stage, tokens, dim=dim, heads=heads)
    chosen = options.parse_names(kind, KINDS, [options.ALL])
    ends = options.parse_range(swept) if swept else _MEASURED_TOKENS if measure else _NUMERICS_TOKENS if numerics else ()
    asked = _Asked(chosen, sizes, sweep_tokens(tokens, *ends))
    points: list[AttentionPoint] = []
    interrupted = False
    if numerics:
        document = _rounding(asked)
    elif measure:
        from mpvit.compare_attention.measure import MIN_TIME_S
        from mpvit.measurement.options import TimingOptions

        timing = TimingOptions(
            device=device, dtype=dtype, threads=threads, backward=backward, min_time_s=MIN_TIME_S, budget_s=budget
        )
        document, interrupted = _measured(terminal, asked, timing, points)
    else:
        met = met_tokens(network) if dim is None else []
        growing = sweep(chosen if kind else CROSSING, sizes, asked.tokens)
        document = attention_document(attention_costs(chosen, sizes), growing, met, name)
    terminal.show(document, form, output)
    if plot:
        from mpvit.plots.attention import attention_figure

        terminal.save(attention_figure(sweep(*asked), points), plot)
    if interrupted:
        raise typer.Exit(130)


_NOT_OF_TASKS = (
    *("tokens", "stage", "dim", "heads", "swept", "measure", "backward", "device", "dtype", "threads", "budget"),
    *("numerics", "plot"),
)
"""What stands instead of a task's own tokens, or measures."""


def _of_task(
    ctx: typer.Context,
    name: str,
    network: ModelConfig,
    kinds: list[str] | None,
    task: str | None,
    size: str | None,
    memory: str | None,
) -> Document:
    of_task = tasks.parse_task(task, {})
    if of_task is None:
        raise tasks.without_task("--memory" if size is None else "--size")
    for option in _NOT_OF_TASKS:
        if options.given(ctx, option):
            raise UsageError(f"--{'sweep' if option == 'swept' else option} with --task: must be one of them", hint=_COUNTED)
    pixels = of_task.size if size is None else options.parse_size(size)
    available = options.parse_bytes("--memory", "80GiB" if memory is None else memory)
    if available < 1:
        raise UsageError(f"--memory {memory}: must be at least 1 byte")
    met = tokens_at(network, pixels, options.parse_names(kinds, KINDS, [options.ALL]))
    return task_document(met, label(name, of_task), available)


_COUNTED = "a task's tokens, channels and heads are those of its stages, and its attention is counted"


class _Asked(NamedTuple):
    """The kinds, at the widths of ``sizes``, over these numbers of tokens."""

    kinds: list[str]
    sizes: Sizes
    tokens: list[int]


def _rounding(asked: _Asked) -> Document:
    from mpvit.compare_attention.numerics import implied_maps, rounding_errors

    every_other = asked.tokens[::2]
    return numerics_document(rounding_errors(asked.kinds, asked.sizes, every_other), implied_maps(asked.sizes))


def _measured(
    terminal: Terminal, asked: _Asked, timing: "TimingOptions", points: list[AttentionPoint]
) -> tuple[Document, bool]:
    """Measure into ``points``; tell whether Ctrl-C ended that."""
    from mpvit.compare_attention.fits import crossings, growths
    from mpvit.compare_attention.measure import measure_attention

    total = len(asked.kinds) * len(asked.tokens)
    interrupted = terminal.collect(measure_attention(*asked, timing), "Measuring", total, into=points)
    return measured_document(points, growths(points), crossings(points)), interrupted

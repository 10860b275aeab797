"""``mpvit ablate``: what each change of a network costs, alone or at the same budget."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mpvit.ablation.edits import AXES
from mpvit.ablation.knobs import KNOBS
from mpvit.ablation.study import BUDGETS, Ablation, Study, each_row
from mpvit.errors import UsageError
from mpvit.tables.ablation import ablation_document
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

if TYPE_CHECKING:
    from mpvit.ablation.results import Row


def _axes_help() -> str:
    axes = [f"{name}: {axis.what} ({', '.join(axis.values)})" for name, axis in AXES.items()]
    more = "One value a stage is joined by /: 2/3/3/3, or by commas where semicolons part the values: 1;2,3,3,3."
    return "\n\n".join(["What changes, its values joined by commas; several axes make a grid.", *axes, more])


Axes = Annotated[
    list[str],
    typer.Argument(
        metavar="AXIS[=VALUE,...]...",
        help=_axes_help(),
        autocompletion=options.complete(AXES),
        show_default=False,
    ),
]
Values = Annotated[
    list[str] | None,
    typer.Option(
        "--values", metavar="VALUE,...", help="Values of the axes that have none of their own, in order.", show_default=False
    ),
]
Match = Annotated[
    str,
    typer.Option(
        metavar="|".join(BUDGETS),
        help="What each row is to have in common with the baseline, within 1 %; latency only with --measure.",
        autocompletion=options.complete(BUDGETS),
    ),
]
Knob = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(KNOBS),
        help="What is turned to match. (default: width)",
        autocompletion=options.complete(KNOBS),
        show_default=False,
    ),
]
Measure = Annotated[bool, typer.Option("--measure", help="Also time each row, beside the baseline, on this machine.")]

_SHOWN_ROWS = 50
"""Of a grid in closed form, from which on counting takes long enough for a progress bar."""


def ablate(
    ctx: typer.Context,
    axis: Axes,
    variant: options.Variant = None,
    config: options.Config = None,
    values: Values = None,
    match: Match = "none",
    knob: Knob = None,
    size: options.Size = "224",
    batch: options.Batch = 1,
    convention: options.Convention = "fvcore",
    measure: Measure = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    min_time: options.MinTime = 1.0,
    plot: options.Plot = None,
    form: options.Format = None,
    output: options.Output = None,
) -> None:
    """Change a network along named axes and count each one: its cost, and the difference from the baseline by part.

    With --match, each row is made as costly as the baseline by turning a knob: the fair comparison. A row that the
    constraints refuse says why.

    Examples:
      mpvit ablate paths --variant xsmall --values 1,2,3,4

      mpvit ablate paths=2,3 attention=factorized,softmax --match macs --plot ablation.svg
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    options.check_plot(plot)
    if knob is not None and match == "none":
        raise UsageError(f"--knob {knob}: must go with --match", hint="--match macs or --match params")
    name, network = options.parse_model(ctx, variant, config)
    study = Study(
        model=name,
        config=network,
        axes=parse_axes(axis, values or ()),
        size=options.parse_size(size),
        batch=batch,
        convention=convention,
        match=match,
        knob=knob or "width",
    )
    total = 1 + len(study.grid)
    if plot:
        from mpvit.plots.ablation import ablation_figure, require_few

        require_few(total)
    found: list[Row] = []
    if measure:
        from mpvit.ablation.measure import Timing, measured_rows

        timing = Timing(device=device, dtype=dtype, threads=threads, min_time_s=min_time)
        rows: Iterator[Row] = measured_rows(study, timing)
    else:
        rows = each_row(study)
    terminal.progress &= measure or total > _SHOWN_ROWS
    interrupted = terminal.collect(rows, "Measuring" if measure else "Counting", total, into=found)
    ablation = Ablation(study, found[0], tuple(found[1:]))
    terminal.show(ablation_document(ablation, unfinished=interrupted), form, output)
    if plot:
        terminal.save(ablation_figure(ablation), plot)
    if interrupted:
        raise typer.Exit(130)
    if all(row.error for row in ablation.rows):
        raise typer.Exit(1)


def parse_axes(words: Sequence[str], values: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Read "paths=1,2" and "paths" into values by axis; ``values`` go to the axes without any, in order.

    Raises ``UsageError`` for an axis named twice, and values that are empty or go to no axis.
    """
    axes: dict[str, tuple[str, ...]] = {}
    left = list(values)
    for word in words:
        name, given, text = word.partition("=")
        if name in axes:
            raise UsageError(f"axis {name!r} twice: must be once", hint=f"join its values: {name}=1,2")
        if not given and left:
            given, text = "=", left.pop(0)
        axes[name] = _split(text) if given else ()
    if left:
        raise UsageError(f"--values {left[0][:40]!r}: goes to no axis", hint="one --values for each axis without =")
    return axes


def _split(text: str) -> tuple[str, ...]:
    """Split "1,2" and "1;2,3,3,3" into values; with semicolons, or where a number comes twice, commas are between stages."""
    values = [word.strip() for word in text.split(",")]
    if ";" not in text and len(set(values)) == len(values):
        return tuple(values)
    return tuple("/".join(word.strip() for word in value.split(",")) for value in text.split(";"))

"""``mpvit flops``: what networks cost."""

from typing import Annotated

import typer

from mpvit.counting import COUNTERS, check, count_parts, try_count
from mpvit.errors import UsageError, unknown_name
from mpvit.operations import CONVENTIONS
from mpvit.tables import count_document, parts_document
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

_PARTS = ("total", "stage", "path", "kind", "layer")

Counters = Annotated[
    list[str] | None,
    typer.Option(
        "--counter",
        metavar="NAME|all",
        help=f"Who counts: {', '.join(COUNTERS)} or all; repeatable. (default: analytic)",
        autocompletion=options.complete([options.ALL, *COUNTERS]),
        show_default=False,
    ),
]
Convention = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(CONVENTIONS),
        help="What the analytic counter adds up. (default: fvcore, the published one)",
        autocompletion=options.complete(CONVENTIONS),
        show_default=False,
    ),
]
By = Annotated[str, typer.Option(metavar="|".join(_PARTS), help="Show parts.", autocompletion=options.complete(_PARTS))]
Check = Annotated[bool, typer.Option("--check", help="Exit with 3 if a count differs from the published one.")]


def flops(
    ctx: typer.Context,
    variant: options.Variants = None,
    config: options.Configs = None,
    size: options.Size = "224",
    batch: options.Batch = 1,
    counter: Counters = None,
    convention: Convention = None,
    by: By = "total",
    form: options.Format = None,
    output: options.Output = None,
    check_published: Check = False,
) -> None:
    """Count parameters, MACs, FLOPs and activations, beside the published figures.

    The default counter is a closed form: exact to the integer, at any size, without running a network.

    Examples:
      mpvit flops --variant xsmall

      mpvit flops --size 800x1280 --by stage --format csv -o stages.csv
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    models, pixels = options.parse_models(variant, config), options.parse_size(size)
    counters = options.parse_names(counter, COUNTERS, ["analytic"])
    if by not in _PARTS:
        raise unknown_name("part", by, _PARTS)
    if by != "total" and counters != ["analytic"]:
        raise UsageError(f"--by {by} with --counter {','.join(counters)}: only the analytic counter's parts add up")
    pairs = [(name, tool) for name in models for tool in counters]
    several = len(counters) > 1
    counts = [
        try_count(
            models[name],
            pixels,
            batch=batch,
            counter=tool,
            convention=None if several and tool != "analytic" else convention,
            name=name,
        )
        for name, tool in terminal.track(pairs, "Counting", len(pairs))
    ]
    if by == "total":
        document = count_document(counts)
    else:
        rule = counts[0].convention
        parts = [count_parts(models[c.model], pixels, by=by, batch=batch, convention=rule, name=c.model) for c in counts]
        document = parts_document(list(zip(counts, parts, strict=True)), by)
    terminal.show(document, form, output)
    if check_published:
        check(counts)
    if any(count.error for count in counts):
        raise typer.Exit(1)

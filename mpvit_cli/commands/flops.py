"""``mpvit flops``: what networks cost."""

from typing import Annotated

import typer

from mpvit.counting import COUNTERS, CUTS, check, count_parts, require_cut, require_published, try_count
from mpvit.operations.conventions import CONVENTIONS
from mpvit.tables.counts import count_document, parts_document
from mpvit_cli import options
from mpvit_cli.output import Terminal, check_format

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
By = Annotated[str, typer.Option(metavar="|".join(CUTS), help="Show parts.", autocompletion=options.complete(CUTS))]
Check = Annotated[bool, typer.Option("--check", help="Exit with 3 if a count differs from the published one.")]


def flops(
    ctx: typer.Context,
    variant: options.Variants = None,
    config: options.Configs = None,
    attention: options.Attention = None,
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
    networks, pixels = options.parse_models(variant, config, attention), options.parse_size(size)
    counters = options.parse_names(counter, COUNTERS, ["analytic"])
    require_cut(by, counters)
    pairs = [(name, tool) for name in networks for tool in counters]
    counts = []
    for name, tool in pairs if counters == ["analytic"] else terminal.track(pairs, "Counting", len(pairs)):
        rule = convention if tool == "analytic" or len(counters) == 1 else None
        counts.append(try_count(networks[name], pixels, batch=batch, counter=tool, convention=rule, name=name))
    if by == "total":
        document = count_document(counts)
    else:
        rule = counts[0].convention
        parts = [count_parts(networks[c.model], pixels, by=by, batch=batch, convention=rule, name=c.model) for c in counts]
        document = parts_document(list(zip(counts, parts, strict=True)), by)
    if check_published:
        require_published(counts)
    terminal.show(document, form, output)
    if check_published:
        check(counts)
    if any(count.error for count in counts):
        raise typer.Exit(1)

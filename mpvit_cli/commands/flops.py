"""``mpvit flops``: what networks cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from mpvit.counting import COUNTERS, CUTS, TASK_CUTS, count_parts, is_installed, try_count
from mpvit.counting.analytic import PART
from mpvit.counting.published import check, find, published_tasks, require_published
from mpvit.counting.results import TOTAL
from mpvit.errors import UsageError, unknown_name
from mpvit.operations.conventions import CONVENTIONS
from mpvit.tables.counts import count_document, parts_document
from mpvit.tables.dense import check_document, task_document
from mpvit_cli import options, tasks
from mpvit_cli.output import Terminal, check_format

Counters = Annotated[
    list[str] | None,
    typer.Option(
        "--counter",
        metavar="NAME|all",
        help=f"Who counts: {', '.join(COUNTERS)}, or all of them; repeatable. (default: analytic)",
        autocompletion=options.complete([options.ALL, *COUNTERS]),
        show_default=False,
    ),
]
Convention = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(CONVENTIONS),
        help="What the analytic counter adds up. (default: the published one: fvcore, with --task published-dense)",
        autocompletion=options.complete(CONVENTIONS),
        show_default=False,
    ),
]
By = Annotated[
    str,
    typer.Option(
        metavar="|".join(TASK_CUTS),
        help="Show parts; part is the backbone and each part of --task.",
        autocompletion=options.complete(TASK_CUTS),
    ),
]
Check = Annotated[bool, typer.Option("--check", help="Exit with 3 if a count differs from the published one.")]


def flops(
    ctx: typer.Context,
    variant: options.Variants = None,
    config: options.Configs = None,
    attention: options.Attention = None,
    task: tasks.Tasks = None,
    classes: tasks.Classes = None,
    proposals: tasks.Proposals = None,
    detections: tasks.Detections = None,
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

      mpvit flops --task all --check
    """
    terminal: Terminal = ctx.obj
    check_format(form)
    numbers = {"classes": classes, "proposals": proposals, "detections": detections}
    networks = tasks.parse_networks(ctx, options.parse_models(variant, config, attention), size, task, numbers)
    counters = options.parse_names(counter, COUNTERS, ["analytic"])
    _check_cut(by, counters, of_task=bool(task))
    printed = published_tasks(networks, batch, convention) if task and check_published else {}
    pairs = [(network, name) for network in printed or networks for name in counters]
    counts = []
    for network, name in pairs if counters == ["analytic"] else terminal.track(pairs, "Counting", len(pairs)):
        rule = convention if name == "analytic" or len(counters) == 1 else None
        count = try_count(network, batch, counter=name, convention=rule)
        counts.append(replace(count, printed=printed.get(network)))
    if by != TOTAL:
        parts = [count_parts(network, by, batch, convention=convention) for network, _ in pairs]
        document = parts_document(list(zip(counts, parts, strict=True)), by)
    elif printed:
        document = check_document(counts, find(counts))
    else:
        document = task_document(counts) if task else count_document(counts)
    if check_published and not printed:
        require_published(counts)
    terminal.show(document, form, output)
    if check_published:
        check(counts)
    named = options.parse_names(counter, [], [])
    if any(count.error and (count.counter in named or is_installed(count.counter)) for count in counts):
        raise typer.Exit(1)


def _check_cut(by: str, counters: Sequence[str], *, of_task: bool) -> None:
    if by == PART and not of_task:
        raise tasks.without_task(f"--by {by}")
    if by not in TASK_CUTS:
        raise unknown_name("part", by, TASK_CUTS if of_task else CUTS)
    if list(counters) != ["analytic"] and (of_task or by != TOTAL):
        option = "--task" if of_task else f"--by {by}"
        reason = "counts tasks" if of_task else "has parts that add up"
        raise UsageError(
            f"{option} with --counter {','.join(counters)}: only the analytic counter {reason}",
            hint="leave --counter out" if of_task else "leave --counter out, or take --by total",
        )

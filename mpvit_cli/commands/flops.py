"""``mpvit flops``: what networks cost."""

from collections.abc import Sequence
from typing import Annotated

import typer

from mpvit.counting import COUNTERS, check, count_parts, dense, require_cut, require_published, try_count
from mpvit.counting.results import TOTAL
from mpvit.operations.conventions import CONVENTIONS
from mpvit.tables import Document
from mpvit.tables.counts import count_document, parts_document
from mpvit.tables.dense import check_document, task_document
from mpvit_cli import options, tasks
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
        help="What the analytic counter adds up. (default: the published one: fvcore, with --task published-dense)",
        autocompletion=options.complete(CONVENTIONS),
        show_default=False,
    ),
]
By = Annotated[
    str,
    typer.Option(
        metavar="|".join(dense.CUTS),
        help="Show parts; part is the backbone and each part of --task.",
        autocompletion=options.complete(dense.CUTS),
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
    wanted = tasks.parse_tasks(task, {"classes": classes, "proposals": proposals, "detections": detections})
    networks, pixels = options.parse_models(variant, config, attention), options.parse_size(size)
    counters = options.parse_names(counter, COUNTERS, ["analytic"])
    if wanted:
        dense.require_closed_form(by, counters)
        own_size = pixels if options.chosen(ctx, "size") else None
        if check_published:
            dense.require_published(own_size, batch, convention)
        subjects = (dense.published if check_published else dense.subjects)(wanted, networks)
        document, tasked = _count_tasks(subjects, own_size, batch, convention, by, checked=check_published)
        terminal.show(document, form, output)
        if check_published:
            dense.check(tasked)
        return
    if by == dense.PART:
        raise tasks.without_task(f"--by {by}")
    require_cut(by, counters)
    pairs = [(name, tool) for name in networks for tool in counters]
    counts = []
    for name, tool in pairs if counters == ["analytic"] else terminal.track(pairs, "Counting", len(pairs)):
        rule = convention if tool == "analytic" or len(counters) == 1 else None
        counts.append(try_count(networks[name], pixels, batch=batch, counter=tool, convention=rule, name=name))
    if by == TOTAL:
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


def _count_tasks(
    subjects: Sequence[dense.Subject],
    size: tuple[int, int] | None,
    batch: int,
    convention: str | None,
    by: str,
    *,
    checked: bool,
) -> tuple[Document, list[dense.TaskCount]]:
    totals = [dense.count(each, size, batch=batch, convention=convention) for each in subjects]
    if by == TOTAL:
        return (check_document(totals, dense.find(subjects)) if checked else task_document(totals)), totals
    parts = [dense.count_parts(each, size, by=by, batch=batch, convention=convention) for each in subjects]
    return parts_document(list(zip(totals, parts, strict=True)), by), totals

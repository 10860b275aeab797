"""``mpvit flops``: cost of networks."""

from dataclasses import replace
from typing import Annotated

import typer

from mpvit.counting import COUNTERS, CUTS, TASK_CUTS, count_parts, is_installed, try_count
from mpvit.counting.analytic import PART
from mpvit.counting.published import check, find, published_tasks, require_published
from mpvit.counting.results import TOTAL
from mpvit.errors import UsageError, unknown_name
from mpvit.operations.conventions import CONVENTIONS
from mpvit.tables.counts import check_document, count_document, parts_document
from mpvit_cli.options import Options, option
from mpvit_cli.options.answer import Answer
from mpvit_cli.options.networks import NetworksAndTasks, without_task
from mpvit_cli.options.values import ALL, parse_names
from mpvit_cli.output import Terminal

ANALYTIC = ["analytic"]


class Counting(Options):
    """The counters, and the parts that they count."""

    counter: Annotated[
        list[str] | None,
        option(
            f"Counter: {', '.join(COUNTERS)} or all; repeatable.",
            metavar="NAME|all",
            choices=[ALL, *COUNTERS],
            default="analytic",
        ),
    ] = None
    convention: Annotated[
        str | None,
        option(
            "Convention of the MACs of the analytic counter.",
            choices=CONVENTIONS,
            default="fvcore, with --task published-dense",
        ),
    ] = None
    by: Annotated[
        str, option("Parts to show; part is the backbone and each part of the head of --task.", choices=TASK_CUTS)
    ] = TOTAL
    check_published: Annotated[bool, option("Exit with 3 if a count differs from the published one.", "--check")] = False

    @property
    def counters(self) -> list[str]:
        """The names of the counters."""
        return parse_names(self.counter, COUNTERS, ANALYTIC)

    def check_cut(self, *, of_task: bool) -> None:
        """Raise ``UsageError`` for parts that do not exist, or that the counters do not have."""
        counters = self.counters
        if self.by == PART and not of_task:
            raise without_task(f"--by {self.by}")
        if self.by not in TASK_CUTS:
            raise unknown_name("part", self.by, TASK_CUTS if of_task else CUTS)
        if counters != ANALYTIC and (of_task or self.by != TOTAL):
            flag = "--task" if of_task else f"--by {self.by}"
            reason = "counts tasks" if of_task else "has parts that add up"
            raise UsageError(
                f"{flag} with --counter {','.join(counters)}: only the analytic counter {reason}",
                hint="leave --counter out" if of_task else "leave --counter out, or take --by total",
            )


def flops(terminal: Terminal, networks: NetworksAndTasks, counting: Counting, answer: Answer) -> None:
    """Count parameters, MACs, FLOPs and activations, and compare them with the published figures.

    The default counter is a closed form: exact to the integer, at any size, without running a network.

    Examples:
      mpvit flops --variant xsmall

      mpvit flops --size 800x1280 --by stage --format csv -o stages.csv

      mpvit flops --task all --check
    """
    named, batch, counters = networks.networks(), networks.batch, counting.counters
    counting.check_cut(of_task=bool(networks.task))
    checked = counting.check_published
    printed = published_tasks(named, batch, counting.convention) if networks.task and checked else {}
    pairs = [(network, name) for network in printed or named for name in counters]
    counts = []
    for network, name in pairs if counters == ANALYTIC else terminal.track(pairs, "Counting", len(pairs)):
        rule = counting.convention if name in ANALYTIC or len(counters) == 1 else None
        counts.append(replace(try_count(network, batch, counter=name, convention=rule), printed=printed.get(network)))
    if counting.by == TOTAL:
        document = check_document(counts, find(counts)) if printed else count_document(counts)
    else:
        parts = [count_parts(network, counting.by, batch, convention=counting.convention) for network, _ in pairs]
        document = parts_document(list(zip(counts, parts, strict=True)), counting.by)
    if checked and not printed:
        require_published(counts)
    answer.show(terminal, document)
    if checked:
        check(counts)
    asked = parse_names(counting.counter, [], [])
    if any(count.error and (count.counter in asked or is_installed(count.counter)) for count in counts):
        raise typer.Exit(1)

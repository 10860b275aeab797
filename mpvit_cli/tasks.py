"""The options ``--task``, ``--classes``, ``--proposals`` and ``--detections``: a detector or segmenter on each network."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from mpvit import dense
from mpvit.config import ModelConfig
from mpvit.dense import TASKS, get_tasks
from mpvit.errors import UsageError
from mpvit.network import NamedNetwork
from mpvit_cli import options

Tasks = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="NAME|all",
        help=f"A detector or segmenter on each network, at its published size and classes: {', '.join(TASKS)} or all; "
        "repeatable.",
        autocompletion=options.complete([options.ALL, *TASKS]),
        show_default=False,
    ),
]
Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help=f"A detector or segmenter on each network, as published: {', '.join(TASKS)}.",
        autocompletion=options.complete(TASKS),
        show_default=False,
    ),
]


def _number(metavar: str, what: str) -> object:
    return typer.Option(parser=options.whole, metavar=metavar, help=what, show_default=False)


Classes = Annotated[int | None, _number("K", "Classes of --task, without background.")]
Proposals = Annotated[int | None, _number("N", "Boxes an image that the box head of --task mask-rcnn judges. (default: 1000)")]
Detections = Annotated[
    int | None, _number("N", "Boxes an image that the mask head of --task mask-rcnn is run on. (default: 100)")
]


def parse_tasks(names: Sequence[str] | None, numbers: Mapping[str, int | None]) -> list[dense.Task]:
    """Return the tasks asked for with ``numbers`` of classes, proposals and detections; none without ``--task``.

    Raises ``UsageError`` for an unknown task, and for a number that it does not have or that stands alone.
    """
    if names:
        return get_tasks(options.parse_names(names, TASKS, []), **numbers)
    for name, number in numbers.items():
        if number is not None:
            raise without_task(f"--{name}")
    return []


def parse_task(name: str | None, numbers: Mapping[str, int | None]) -> dense.Task | None:
    """Return the one task asked for, likewise; None without ``--task``."""
    if name is None:
        parse_tasks(None, numbers)
        return None
    return get_tasks([name], **numbers)[0]


def parse_networks(
    ctx: typer.Context,
    networks: Mapping[str, ModelConfig],
    size: str,
    names: Sequence[str] | None,
    numbers: Mapping[str, int | None],
) -> list[NamedNetwork]:
    """Return each network, under each task asked for at the task's own size unless one is chosen.

    Raises ``UsageError`` as ``parse_tasks``.
    """
    pixels = options.parse_size(size)
    tasks = parse_tasks(names, numbers)
    if not tasks:
        return [NamedNetwork(name, config, pixels) for name, config in networks.items()]
    return [
        NamedNetwork(name, config, own_size(ctx, pixels, task), task) for task in tasks for name, config in networks.items()
    ]


def own_size(ctx: typer.Context, pixels: tuple[int, int], task: dense.Task) -> tuple[int, int]:
    """Return the size that is chosen, else the task's."""
    return pixels if options.chosen(ctx, "size") else task.size


def without_task(option: str) -> UsageError:
    """Return the error for an option that is of tasks alone."""
    return UsageError(f"{option} without --task: must go with it", hint=f"--task all or one of {', '.join(TASKS)}")

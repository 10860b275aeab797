"""How a network is trained, and where it is trained and evaluated."""

import os
from collections.abc import Sequence
from typing import Annotated

import typer

from mpvit.errors import UsageError
from mpvit.training.recipe import RECIPES
from mpvit_cli.options.reading import complete, whole

Recipe = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="|".join(RECIPES),
        help="deit: for thousands of pictures a class; small: for hundreds; segment, segment-small: likewise for --task. "
        "(default: a small one for the data that needs no files, else the other)",
        autocompletion=complete(RECIPES),
        show_default=False,
    ),
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Any other setting of the recipe; repeatable.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(parser=whole, metavar="N", help="Processes that read pictures. (default: 2, at most a core each)"),
]
TrainingDevice = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where it runs.", envvar="MPVIT_DEVICE")]

_MOST_WORKERS = 1024


def parse_settings(words: Sequence[str] | None) -> dict[str, str]:
    """Read "mixup=0" into settings by name; raise ``UsageError`` for what has no value."""
    found = {}
    for text in words or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: must be NAME=VALUE", hint="for example --set mixup=0")
        found[name] = value
    return found


def parse_workers(number: int | None) -> int:
    """Return how many processes read pictures; raise ``UsageError`` for a number that no machine starts."""
    readers = min(2, _cores()) if number is None else number
    if not 0 <= readers <= _MOST_WORKERS:
        raise UsageError(f"--workers {readers}: must be from 0 to {_MOST_WORKERS}")
    return readers


def parse_training_device(device: str) -> None:
    """Raise ``UsageError`` for a device that nothing is trained on here."""
    if device not in {"cpu", "cuda"}:
        raise UsageError(f"--device {device!r}: must be cpu or cuda", hint="the launcher gives each process its own GPU")
    if device == "cuda":
        from mpvit.devices import parse_device

        parse_device(device)


def set_threads(threads: int | None, readers: int) -> None:
    """Give torch so many threads; by default a core is left to those that read pictures, unless the environment says."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    elif readers and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), max(_cores() - 1, 1)))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

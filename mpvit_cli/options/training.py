"""Options of training: the recipe, and the machine that trains or evaluates."""

import os
from collections.abc import Sequence
from typing import Annotated

from mpvit.errors import UsageError
from mpvit.training.recipe import RECIPES
from mpvit_cli.options import Options, option
from mpvit_cli.options.machine import ThreadsOption
from mpvit_cli.options.values import whole
from mpvit_cli.output import Terminal

_MAX_WORKERS = 1024


class RecipeOptions(Options):
    """The recipe: a named one, with changed settings."""

    recipe: Annotated[
        str | None,
        option(
            "Recipe: deit for thousands of images per class, small for hundreds; segment and segment-small for --task.",
            choices=RECIPES,
            default="the small one for data that needs no files, else the other",
        ),
    ] = None
    setting: Annotated[
        list[str] | None, option("Another setting of the recipe; repeatable.", "--set", metavar="NAME=VALUE")
    ] = None

    @property
    def settings(self) -> dict[str, str]:
        """The changed settings by name; raises ``UsageError`` for a word without a value."""
        return parse_settings(self.setting)


class RunMachine(Options):
    """Device, threads and data-loading processes of training and evaluation."""

    workers: Annotated[
        int | None, option("Processes that read images.", parser=whole, metavar="N", default="2, at most one per core")
    ] = None
    device: Annotated[str, option("Device.", metavar="cpu|cuda", env="MPVIT_DEVICE")] = "cpu"
    threads: ThreadsOption = None

    def check(self) -> None:
        """Raise ``UsageError`` for a device that cannot train here, or a number of processes that no machine starts."""
        parse_training_device(self.device)
        if not 0 <= self.readers <= _MAX_WORKERS:
            raise UsageError(f"--workers {self.readers}: must be from 0 to {_MAX_WORKERS}")

    @property
    def readers(self) -> int:
        """The number of processes that read images."""
        return default_workers() if self.workers is None else self.workers

    def start(self, terminal: Terminal) -> None:
        """Set torch's threads, and silence all processes but the first.

        By default one core is left to the processes that read images, unless OMP_NUM_THREADS is set.
        """
        import torch

        if self.threads:
            torch.set_num_threads(self.threads)
        elif self.readers and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(min(torch.get_num_threads(), max(_cores() - 1, 1)))
        terminal.quiet |= os.environ.get("RANK", "0") != "0"


def default_workers() -> int:
    """Return the default number of processes that read images."""
    return min(2, _cores())


def parse_settings(words: Sequence[str] | None) -> dict[str, str]:
    """Read "mixup=0" into settings by name; raise ``UsageError`` for a word without a value."""
    found = {}
    for text in words or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text!r}: must be NAME=VALUE", hint="for example --set mixup=0")
        found[name] = value
    return found


def parse_training_device(device: str) -> None:
    """Raise ``UsageError`` for a device that cannot train here."""
    if device not in {"cpu", "cuda"}:
        raise UsageError(f"--device {device!r}: must be cpu or cuda", hint="the launcher gives each process its own GPU")
    if device == "cuda":
        from mpvit.devices import parse_device

        parse_device(device)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Beginning a run, or going on with one: data opened and read once, settings written, all processes of one mind."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from mpvit.dense import get_segmenter, require_levels
from mpvit.training.data import Data, open_data
from mpvit.training.processes import readable
from mpvit.training.recipe import require_maskable
from mpvit.training.run import Run
from mpvit.training.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from accelerate import Accelerator

    from mpvit.config import ModelConfig
    from mpvit.training.recipe import Recipe

    Watch = Callable[[Iterable[str], str, int], Iterable[str]]

_LIBRARIES = ("mpvit", "torch", "accelerate", "kornia", "torchmetrics", "numpy", "pillow")


def begin(
    folder: Path,
    data: str,
    network: tuple[str, ModelConfig],
    recipe: tuple[str, Recipe],
    accelerator: Accelerator,
    *,
    task: str | None = None,
    workers: int,
    watch: Watch,
) -> tuple[Run, Data]:
    """Return a new run in ``folder`` and the data that it trains on, without the pictures that cannot be read.

    ``network`` and ``recipe`` come with their names; the network, or the segmenter on it that ``task`` names, gets as many
    classes as the data has. Errors are those of ``open_data``, ``Data``, ``require_maskable`` and ``Run.begin``.
    """
    opened = open_data(data, masked=bool(task))
    if task:
        require_maskable(recipe[1])
        require_levels(network[1], get_segmenter(task, 1))
    opened.require_trainable()
    opened = readable(opened, accelerator, workers, watch)
    opened.require_trainable()
    settings = Settings.of(opened, network, recipe, {library: version(library) for library in _LIBRARIES}, task)
    run = Run.begin(folder, settings) if accelerator.is_main_process else Run(folder, settings)
    accelerator.wait_for_everyone()
    return run, opened


def resume(run: Run) -> Data:
    """Return the data of a run that goes on; raise ``MpvitError`` where its pictures are not those it began with."""
    data = open_data(run.settings.data, masked=bool(run.settings.task)).without(run.settings.damaged)
    run.require(data)
    return data

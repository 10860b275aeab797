"""A study: several networks trained alike, with one recipe, the same seeds and the same order of images, in one folder.

Each network and seed is a run of its own (``training.run``), so that an interrupted study resumes from its runs.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from mpvit.errors import UsageError
from mpvit.network import NamedNetwork
from mpvit.training.data import recipe_for
from mpvit.training.data.splits import Data
from mpvit.training.recipe import Recipe, override
from mpvit.training.run import CONFIG, LOG, Run, RunConfig

Show = Callable[[str, float], None]
Key = tuple[str, int]
RunResult = tuple[int, float]

MAX_SEEDS, MAX_JOBS = 1000, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """Settings of a study; raises ``UsageError`` for numbers out of range.

    Attributes:
        recipe_name: name of the recipe that ``recipe`` is derived from.
        recipe: recipe of every network; its seed is the first seed.
        seeds: number of seeds.
        jobs: runs at a time, each in a process of its own; 1 for this process.
        workers: processes that read images, for each run.
        device: cpu or cuda.
    """

    folder: Path
    recipe_name: str
    recipe: Recipe
    seeds: int = 3
    jobs: int = 1
    workers: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, most in (("seeds", MAX_SEEDS), ("jobs", MAX_JOBS)):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(f"{name} = {getattr(self, name)}: must be from 1 to {most}")

    @property
    def each_seed(self) -> range:
        """The seeds."""
        return range(self.recipe.seed, self.recipe.seed + self.seeds)


class TrainedNetwork(NamedTuple):
    """Result of the runs of one network: the accuracy on the held-out images for each seed, and the seconds of all runs."""

    accuracies: tuple[float, ...]
    seconds: float


def train_all(networks: Mapping[str, NamedNetwork], data: Data, study: StudyConfig, show: Show) -> dict[str, TrainedNetwork]:
    """Train every network with every seed, each in the folder of its key; return the results by key.

    ``show`` is called with a line of text and the share that is done. Raises ``UsageError`` if the folder holds another study,
    and ``KeyboardInterrupt``.
    """
    configs: dict[Key, RunConfig] = {}
    for key, network in networks.items():
        for seed in study.each_seed:
            recipe = replace(study.recipe, seed=seed, size=_side(network.size))
            configs[key, seed] = RunConfig.of(data, network, study.recipe_name, recipe)
    _require_same_study(study.folder, next(iter(configs.values())))
    results = (_train_here if study.jobs == 1 else _train_in_processes)(configs, study, show)
    trained = {}
    for key in networks:
        runs = [results[key, seed] for seed in study.each_seed]
        accuracies = tuple(correct / len(data.held_out) for correct, _ in runs)
        trained[key] = TrainedNetwork(accuracies, sum(seconds for _, seconds in runs))
    return trained


def study_recipe(
    data: str,
    recipe: str | None = None,
    settings: Mapping[str, object] | None = None,
    *,
    size: tuple[int, int] | None = None,
    share: int = 1,
) -> tuple[str, Recipe]:
    """Return the recipe of a study on ``data``, with its name: a named one, else the one for the data.

    ``settings`` change it. ``size`` is the (height, width) of the images, in pixels, if it is not that of the recipe. Unless
    the settings have ``epochs``, the networks are trained for one ``share``-th of the recipe's epochs. Raises ``UsageError``
    for unknown names, wrong values, and images that are not square.
    """
    name, own = recipe_for(data, recipe)
    changes = {"epochs": max(own.epochs // share, 1), **(settings or {})}
    if size is not None:
        changes["size"] = _side(size)
    return name, override(own, changes)


def _side(size: tuple[int, int]) -> int:
    height, width = size
    if height != width:
        raise UsageError(f"images of {height} × {width} pixels: only square images can be trained on")
    return height


def _require_same_study(folder: Path, config: RunConfig) -> None:
    """Raise ``UsageError`` if the folder has runs with other data or another recipe; only seed and size may differ."""

    def description(config: RunConfig) -> dict[str, object]:
        recipe = replace(config.recipe, seed=0, size=224)
        return {"data": config.data, "fingerprint": config.fingerprint, "recipe": recipe}

    wanted = description(config)
    for path in folder.glob(f"*/seed-*/{CONFIG}"):
        found = description(Run.open(path.parent).config)
        if different := [name for name in wanted if found[name] != wanted[name]]:
            raise UsageError(
                f"{str(folder)!r} holds another study: {different[0]} differs",
                hint="use another folder: the networks of a study are trained alike",
            )


def _train_here(configs: Mapping[Key, RunConfig], study: StudyConfig, show: Show) -> dict[Key, RunResult]:
    """Train one run after the other in this process."""
    results: dict[Key, RunResult] = {}
    epochs = study.recipe.epochs
    for (key, seed), config in configs.items():

        def report(epoch: int, title: str = f"{key}, seed {seed}") -> None:
            show(f"{title}, epoch {epoch}/{epochs}", (len(results) * epochs + epoch) / (len(configs) * epochs))

        report(0)
        results[key, seed] = train_run(_folder(study, key, seed), config, study, report=report)
    return results


def _train_in_processes(configs: Mapping[Key, RunConfig], study: StudyConfig, show: Show) -> dict[Key, RunResult]:
    """Train several runs at a time, each in a process of its own."""
    import torch

    folders = {key: _folder(study, *key) for key in configs}
    threads, total = max(torch.get_num_threads() // study.jobs, 1), study.recipe.epochs * len(configs)
    with ProcessPoolExecutor(study.jobs, mp_context=get_context("spawn"), initializer=_exit_with_parent) as pool:
        futures: dict[Future[RunResult], Key] = {
            pool.submit(train_run, folders[key], config, study, threads): key for key, config in configs.items()
        }
        running: Iterable[Future[RunResult]] = futures
        try:
            while running := wait(running, timeout=0.5, return_when=FIRST_COMPLETED).not_done:
                finished = len(futures) - len(running)
                show(f"{finished} of {len(futures)} runs", sum(map(_epochs, folders.values())) / total)
            return {key: future.result() for future, key in futures.items()}
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _exit_with_parent() -> None:
    """End this process as soon as its parent ends, even by a kill: the study may be resumed by then."""

    def watch() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _epochs(folder: Path) -> int:
    try:
        return len((folder / LOG).read_text(encoding="utf-8").splitlines())
    except OSError:
        return 0


def _folder(study: StudyConfig, key: str, seed: int) -> Path:
    return study.folder / key / f"seed-{seed}"


def train_run(
    folder: Path,
    config: RunConfig,
    study: StudyConfig,
    threads: int | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> RunResult:
    """Start a run or resume it, and train it to its end, with ``threads`` CPU threads if given.

    ``report`` is called with the number of each completed epoch. Returns the held-out images that are classified correctly, and
    the seconds of the epochs.
    """
    import torch

    from mpvit.training.distributed import training_accelerator
    from mpvit.training.results import Epoch, Step
    from mpvit.training.trainer import RunOptions, train

    def report_epoch(progress: Step | Epoch) -> None:
        if isinstance(progress, Epoch):
            report(progress.epoch)

    if threads:
        torch.set_num_threads(threads)
    run = Run.open(folder) if (folder / CONFIG).exists() else Run.create(folder, config)
    if run.config != config:
        raise UsageError(f"{str(folder)!r} holds a run with other settings", hint="use another folder")
    data, recipe = run.open_data(), config.recipe
    history = train(run, data, training_accelerator(recipe, study.device), RunOptions(study.workers), report_epoch)
    images = min(recipe.batch * history[0].step, len(data.train))
    return history[-1].held_out_correct, sum(images / epoch.images_per_s for epoch in history)

"""A study: several networks trained alike, with one recipe, the same seeds and the same order of images, in one folder.

Each network and seed is a run of its own (``training.run``), so that an interrupted study resumes from its runs.
"""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from mpvit.errors import UsageError
from mpvit.training.run import CONFIG, LOG, Run, RunConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from mpvit.network import NamedNetwork
    from mpvit.training.data.splits import Data
    from mpvit.training.recipe import Recipe

    Show = Callable[[str, float], None]
    Key = tuple[str, int]

MAX_SEEDS, MAX_JOBS = 1000, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyConfig:
    """How the networks of a study are trained. Raises ``UsageError`` for numbers out of range.

    Attributes:
        folder: folder of the study.
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
        """Check every field once."""
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


class RunJob(NamedTuple):
    """A run of a study: its folder, its configuration, and the resources that it uses."""

    folder: Path
    config: RunConfig
    workers: int
    threads: int
    device: str


class RunResult(NamedTuple):
    """Result of a run: the held-out images that are classified correctly, and the seconds of its epochs."""

    correct: int
    seconds: float


def train_all(networks: Mapping[str, NamedNetwork], data: Data, study: StudyConfig, show: Show) -> dict[str, TrainedNetwork]:
    """Train every network with every seed, each in the folder of its key; return the results by key.

    ``show`` is called with a line of text and the share that is done. Raises ``UsageError`` if the folder holds another study,
    and ``KeyboardInterrupt``.
    """
    jobs = {(key, seed): _job(key, seed, network, data, study) for key, network in networks.items() for seed in study.each_seed}
    _require_same_study(study.folder, next(iter(jobs.values())).config)
    results = _train_here(jobs, show) if study.jobs == 1 else _train_in_processes(jobs, study.jobs, show)
    trained = {}
    for key in networks:
        runs = [results[key, seed] for seed in study.each_seed]
        accuracies = tuple(run.correct / len(data.held_out) for run in runs)
        trained[key] = TrainedNetwork(accuracies, sum(run.seconds for run in runs))
    return trained


def _job(key: str, seed: int, network: NamedNetwork, data: Data, study: StudyConfig) -> RunJob:
    import torch

    recipe = replace(study.recipe, seed=seed, size=square(network.size))
    config = RunConfig.of(data, network, study.recipe_name, recipe)
    threads = max(torch.get_num_threads() // study.jobs, 1)
    return RunJob(study.folder / key / f"seed-{seed}", config, study.workers, threads, study.device)


def square(size: tuple[int, int]) -> int:
    """Return the side of images of (height, width) pixels; raise ``UsageError`` if they are not square."""
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


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _train_here(jobs: Mapping[Key, RunJob], show: Show) -> dict[Key, RunResult]:
    """Train one run after the other in this process."""
    results: dict[Key, RunResult] = {}
    for (key, seed), job in jobs.items():
        epochs = job.config.recipe.epochs

        def report(epoch: int, title: str = f"{key}, seed {seed}", epochs: int = epochs) -> None:
            share = (len(results) * epochs + epoch) / (len(jobs) * epochs)
            show(f"{title}, epoch {epoch}/{epochs}", share)

        report(0)
        results[key, seed] = train_run(job, report)
    return results


def _train_in_processes(jobs: Mapping[Key, RunJob], number: int, show: Show) -> dict[Key, RunResult]:
    """Train ``number`` runs at a time, each in a process of its own."""
    total = sum(job.config.recipe.epochs for job in jobs.values())
    with ProcessPoolExecutor(number, mp_context=get_context("spawn"), initializer=_exit_with_parent) as pool:
        futures: dict[Future[RunResult], Key] = {pool.submit(train_run, job): key for key, job in jobs.items()}
        running: Iterable[Future[RunResult]] = futures
        try:
            while running := wait(running, timeout=0.5, return_when=FIRST_COMPLETED).not_done:
                finished = len(futures) - len(running)
                show(f"{finished} of {len(futures)} runs", sum(_epochs(job.folder) for job in jobs.values()) / total)
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


def train_run(job: RunJob, report: Callable[[int], None] | None = None) -> RunResult:
    """Start a run or resume it, and train it to its end; ``report`` is called with the number of each completed epoch.

    Without ``report`` this is a process of its own, which uses the threads of the job.
    """
    import torch

    from mpvit.training.distributed import training_accelerator
    from mpvit.training.results import Epoch, Step
    from mpvit.training.trainer import RunOptions, train

    def report_epoch(progress: Step | Epoch) -> None:
        if report and isinstance(progress, Epoch):
            report(progress.epoch)

    if report is None:
        torch.set_num_threads(job.threads)
    run = Run.open(job.folder) if (job.folder / CONFIG).exists() else Run.create(job.folder, job.config)
    if run.config != job.config:
        raise UsageError(f"{str(job.folder)!r} holds a run with other settings", hint="use another folder")
    data, recipe = run.open_data(), job.config.recipe
    history = train(run, data, training_accelerator(recipe, job.device), RunOptions(job.workers), report_epoch)
    images = min(recipe.batch * history[0].step, len(data.train))
    return RunResult(history[-1].held_out_correct, sum(images / epoch.images_per_s for epoch in history))

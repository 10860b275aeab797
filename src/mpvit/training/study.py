"""Several networks trained alike: by one recipe, from the same seeds and with the same data order, in one folder.

Each network and seed is a run of its own there (``training.run``), so a study that was killed goes on where it was.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.errors import MpvitError, UsageError
from mpvit.files import write_atomically
from mpvit.training.run import LOG, Run
from mpvit.training.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mpvit.config import ModelConfig
    from mpvit.training.data import Data
    from mpvit.training.recipe import Recipe
    from mpvit.training.results import Epoch

STUDY = "study.json"

MOST_SEEDS, MOST_JOBS = 1000, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the networks of a study are trained. Raises ``UsageError`` for numbers that there are not.

    Attributes:
        folder: where the study is kept.
        recipe_name: the recipe that ``recipe`` began as.
        recipe: of every network; its seed is the first one's.
        seeds: how many, counted on from there.
        jobs: runs at a time, each in a process of its own; with 1 in this one.
        workers: processes that read pictures, of each run.
        device: cpu or cuda, of each run.
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
        for name, most in (("seeds", MOST_SEEDS), ("jobs", MOST_JOBS)):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(f"{name} = {getattr(self, name)}: must be from 1 to {most}")

    @property
    def each_seed(self) -> range:
        """The seeds themselves."""
        return range(self.recipe.seed, self.recipe.seed + self.seeds)


class Entry(NamedTuple):
    """A network of a study, its name for people, and the (height, width) of the images that it is trained on, in pixels."""

    config: ModelConfig
    model: str
    size: tuple[int, int]


class Learned(NamedTuple):
    """What a network came to: from each seed the share of pictures named rightly at the end, and the seconds of all of them."""

    shares: tuple[float, ...]
    seconds: float


class Job(NamedTuple):
    """One run: where it is, what it trains on what and how, and what it takes of the machine."""

    folder: Path
    settings: Settings
    workers: int
    threads: int
    device: str


class Done(NamedTuple):
    """What came of a run: pictures held out that the network names rightly, and the seconds that its epochs took."""

    correct: int
    seconds: float


def learn_all(
    entries: Mapping[str, Entry], data: Data, training: Training, show: Callable[[str, float], None]
) -> dict[str, Learned]:
    """Train every network, each in the folder of its name within the study's, and return what they came to by that name.

    ``show`` is told what is done, as a line and a share. Raises ``UsageError`` where the folder holds another study, and
    ``KeyboardInterrupt`` where somebody ends it.
    """
    jobs = {
        (place, seed): _job(place, seed, entry, data, training)
        for place, entry in entries.items()
        for seed in training.each_seed
    }
    _keep(training, data, {place: settings.settings.network for (place, _), settings in jobs.items()})
    done = _run(jobs, training, show)
    found = {}
    for place in entries:
        runs = [done[place, seed] for seed in training.each_seed]
        shares = tuple(run.correct / data.held_out.pictures for run in runs)
        found[place] = Learned(shares, sum(run.seconds for run in runs))
    return found


def _job(place: str, seed: int, entry: Entry, data: Data, training: Training) -> Job:
    import torch

    recipe = replace(training.recipe, seed=seed, size=square(entry.size))
    settings = Settings.of(data, (entry.model, entry.config), (training.recipe_name, recipe), versions={})
    threads = max(torch.get_num_threads() // training.jobs, 1)
    return Job(training.folder / place / f"seed-{seed}", settings, training.workers, threads, training.device)


def square(size: tuple[int, int]) -> int:
    """Return the side of images of (height, width) pixels; raise ``UsageError`` where they are no squares."""
    height, width = size
    if height != width:
        raise UsageError(f"images of {height} × {width} pixels: only squares are trained on")
    return height


def _keep(training: Training, data: Data, networks: Mapping[str, dict[str, Any]]) -> None:
    """Write down what the study is; raise ``UsageError`` where its folder holds another."""
    said = {
        "data": data.where,
        "fingerprint": data.fingerprint,
        "recipe": asdict(replace(training.recipe, seed=0)),
        "networks": networks,
    }
    said = json.loads(json.dumps(said))
    path = training.folder / STUDY
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            different = [name for name in ("data", "fingerprint", "recipe") if before[name] != said[name]]
            known = before["networks"]
            different += [name for name, network in said["networks"].items() if known.get(name, network) != network]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MpvitError(f"{path} is damaged: {error}", hint="begin the study anew in another folder") from None
        if different:
            hint = "name another -o: the networks of a study are trained alike"
            raise UsageError(f"{str(training.folder)!r} holds another study: {different[0]} differs", hint=hint)
        said = before | {"networks": before["networks"] | said["networks"]}
    try:
        training.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(training.folder)!r}: {error.strerror}") from None
    write_atomically(path, json.dumps(said, indent=2).encode())


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _run(
    jobs: Mapping[tuple[str, int], Job], training: Training, show: Callable[[str, float], None]
) -> dict[tuple[str, int], Done]:
    """Return what came of each run."""
    epochs = training.recipe.epochs
    total = epochs * len(jobs)
    if training.jobs == 1:
        found = {}
        for done, (key, job) in enumerate(jobs.items()):

            def watch(epoch: int, key: tuple[str, int] = key, done: int = done) -> None:
                show(f"{key[0]}, seed {key[1]}, epoch {epoch}/{epochs}", (done * epochs + epoch) / total)

            watch(0)
            found[key] = learn(job, watch)
        return found
    with ProcessPoolExecutor(training.jobs, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        pending: dict[Future[Done], tuple[str, int]] = {pool.submit(learn, job): key for key, job in jobs.items()}
        left = set(pending)
        try:
            while left:
                done_epochs = sum(_epochs(job.folder) for job in jobs.values())
                show(f"{len(pending) - len(left)} of {len(pending)} runs", done_epochs / total)
                left = wait(left, timeout=0.5, return_when=FIRST_COMPLETED).not_done
            return {key: future.result() for future, key in pending.items()}
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """End this process when the one that started it does, even by a kill: the study may be gone on with by then."""

    def watch() -> None:
        parent = parent_process()
        if parent:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _epochs(folder: Path) -> int:
    try:
        return len((folder / LOG).read_text(encoding="utf-8").splitlines())
    except OSError:
        return 0


def learn(job: Job, watch: Callable[[int], None] | None = None) -> Done:
    """Begin a run or go on with it, to its end."""
    import msgspec
    import torch

    from mpvit.training.data import open_data
    from mpvit.training.loop import Machine, train
    from mpvit.training.processes import accelerator_for
    from mpvit.training.results import Epoch

    def seen(event: object) -> None:
        if watch and isinstance(event, Epoch):
            watch(event.epoch)

    if watch is None:
        torch.set_num_threads(job.threads)
    run = Run.open(job.folder) if (job.folder / "config.json").exists() else Run.begin(job.folder, job.settings)
    if msgspec.json.encode(run.settings) != msgspec.json.encode(job.settings):  # as JSON: a file has no tuples
        raise UsageError(f"{str(job.folder)!r} holds a run with other settings", hint="name another -o")
    data = open_data(job.settings.data).without(job.settings.damaged)
    run.require(data)
    history: list[Epoch] = train(run, data, accelerator_for(run.settings.recipe, job.device), Machine(job.workers), seen)
    pictures = min(job.settings.recipe.batch * history[0].step, data.train.pictures)
    return Done(history[-1].held_out_correct, sum(pictures / epoch.images_per_s for epoch in history))

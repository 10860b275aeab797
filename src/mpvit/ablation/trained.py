"""What each row is worth: every network of an ablation trained by one recipe, with the same seeds and the same data order.

Each row and seed is a run of its own in the study's folder (``training.run``), so a study that was killed goes on where it was.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.ablation.results import Accuracy, Row
from mpvit.errors import MpvitError, UsageError
from mpvit.files import write_atomically
from mpvit.training.run import LOG, Run
from mpvit.training.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mpvit.training.data import Data
    from mpvit.training.recipe import Recipe
    from mpvit.training.results import Epoch

STUDY = "study.json"

MOST_SEEDS, MOST_JOBS = 1000, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the rows of a study are trained. Raises ``UsageError`` for numbers that there are not.

    Attributes:
        folder: where the study is kept.
        recipe_name: the recipe that ``recipe`` began as.
        recipe: of every row; its seed is the first one's.
        seeds: how many, counted on from there.
        jobs: runs at a time, each in a process of its own; with 1 in this one.
        workers: processes that read pictures, of each run.
    """

    folder: Path
    recipe_name: str
    recipe: Recipe
    seeds: int = 3
    jobs: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        """Check every field once."""
        for name, most in (("seeds", MOST_SEEDS), ("jobs", MOST_JOBS)):
            if not 1 <= getattr(self, name) <= most:
                raise UsageError(f"{name} = {getattr(self, name)}: must be from 1 to {most}")


class Job(NamedTuple):
    """One run: where it is, and what it trains on what and how."""

    folder: Path
    settings: Settings
    workers: int
    threads: int


def trained_rows(
    rows: Sequence[Row], model: str, data: Data, training: Training, show: Callable[[str, float], None]
) -> list[Row]:
    """Return the rows, the baseline first, each with what it came to on the pictures held out of ``data``.

    Rows of the same network are one; a row that a constraint refuses stays as it is. ``show`` is told what is done, as a line
    and a share. Raises ``UsageError`` where the folder holds another study, and ``KeyboardInterrupt`` where somebody ends it.
    """
    places = {id(row): _place(row, rows) for row in rows if row.config}
    jobs = {
        (place, seed): _job(place, seed, row, model, data, training)
        for row, place in ((row, places[id(row)]) for row in rows if row.config)
        for seed in _seeds(training)
    }
    _keep(training, data, {place: settings.settings.network for (place, _), settings in jobs.items()})
    correct = _run(jobs, training, show)
    images = data.held_out.pictures
    shares = {place: tuple(correct[place, seed] / images for seed in _seeds(training)) for place, _ in jobs}
    baseline = shares[places[id(rows[0])]]
    return [replace(row, accuracy=compared(shares[places[id(row)]], baseline, images)) if row.config else row for row in rows]


def compared(shares: Sequence[float], baseline: Sequence[float], images: int) -> Accuracy:
    """Return a row's accuracies beside the baseline's of the same seeds, each with its mean and Student's 95 % interval."""
    differences = [own - other for own, other in zip(shares, baseline, strict=True)]
    return Accuracy(
        shares=tuple(shares),
        images=images,
        mean=fmean(shares),
        half=_half(shares),
        delta=fmean(differences),
        delta_half=_half(differences),
    )


def _half(values: Sequence[float]) -> float | None:
    """Return half the width of the interval of a mean (Student, Biometrika 6, 1908); one value has none."""
    if len(values) == 1:
        return None
    from scipy.stats import t

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5


def _seeds(training: Training) -> range:
    return range(training.recipe.seed, training.recipe.seed + training.seeds)


def _place(row: Row, rows: Sequence[Row]) -> str:
    """Return the folder of a row's runs: that of the first row of the same network, named by its values."""
    first = next(other for other in rows if (other.config, other.size) == (row.config, row.size))
    if first is rows[0]:
        return "baseline"
    name = ",".join(f"{axis}={value}" for axis, value in first.values.items())
    if first.matched:  # beside the row of the same values as it is, in the same study
        name += f",same-{first.matched.quantity}"
    return re.sub(r"[^\w.=,+-]", "_", name)


def _job(place: str, seed: int, row: Row, model: str, data: Data, training: Training) -> Job:
    import torch

    if row.size[0] != row.size[1]:
        raise UsageError(f"images of {row.size[0]} × {row.size[1]} pixels: only squares are trained on")
    if row.config is None:
        raise AssertionError
    recipe = replace(training.recipe, seed=seed, size=row.size[0])
    settings = Settings.of(data, (f"{model}, {place}", row.config), (training.recipe_name, recipe), versions={})
    threads = max(torch.get_num_threads() // training.jobs, 1)
    return Job(training.folder / place / f"seed-{seed}", settings, training.workers, threads)


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
            different += [
                name for name, network in networks.items() if before["networks"].get(name, network) != _plain(network)
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise MpvitError(f"{path} is damaged: {error}", hint="begin the study anew in another folder") from None
        if different:
            hint = "name another -o: the rows of a study are trained alike"
            raise UsageError(f"{str(training.folder)!r} holds another study: {different[0]} differs", hint=hint)
        said["networks"] = before["networks"] | said["networks"]
    try:
        training.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(training.folder)!r}: {error.strerror}") from None
    write_atomically(path, json.dumps(said, indent=2).encode())


def _plain(network: dict[str, Any]) -> Any:  # noqa: ANN401 - as JSON has it, without tuples
    return json.loads(json.dumps(network))


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _run(
    jobs: Mapping[tuple[str, int], Job], training: Training, show: Callable[[str, float], None]
) -> dict[tuple[str, int], int]:
    """Return how many pictures each run names rightly at its end."""
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
    with ProcessPoolExecutor(training.jobs, mp_context=get_context("spawn")) as pool:
        pending: dict[Future[int], tuple[str, int]] = {pool.submit(learn, job): key for key, job in jobs.items()}
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


def _epochs(folder: Path) -> int:
    try:
        return len((folder / LOG).read_text(encoding="utf-8").splitlines())
    except OSError:
        return 0


def learn(job: Job, watch: Callable[[int], None] | None = None) -> int:
    """Begin a run or go on with it; return how many pictures held out it names rightly at its end."""
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
    history: list[Epoch] = train(run, data, accelerator_for(run.settings.recipe, "cpu"), Machine(job.workers), seen)
    return history[-1].held_out_correct

"""Evaluating a network on pictures: each once, whatever the number of processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from mpvit.errors import MpvitError
from mpvit.training.views import Plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from accelerate import Accelerator

    from mpvit.model.card import Preprocessing
    from mpvit.training.data import Part

_BINS = 15
"""Of confidence, as in Guo et al., ICML 2017 (arXiv:1706.04599)."""

_BEST = 5


class Found(NamedTuple):
    """What an evaluation adds up: see ``results.Evaluation``."""

    confusion: tuple[tuple[int, ...], ...]
    correct5: int
    loss: float
    calibration_error: float
    seconds: float


def evaluate(
    network: Callable[[Tensor], Tensor],
    part: Part,
    preprocessing: Preprocessing,
    accelerator: Accelerator,
    *,
    classes: int,
    batch: int,
    workers: int,
    watch: Callable[[Iterable[Any], str, int], Iterable[Any]] | None = None,
) -> Found:
    """Return what ``network``, in evaluation mode on the accelerator's device, says of the pictures of ``part``.

    With several processes each takes a share of every batch, and all get the whole result. Raises ``MpvitError`` for a
    picture that cannot be read and for answers that are no numbers.
    """
    from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix

    confusion = MulticlassConfusionMatrix(classes, sync_on_compute=False)
    calibration = MulticlassCalibrationError(classes, n_bins=_BINS, norm="l1", sync_on_compute=False)
    best = MulticlassAccuracy(classes, top_k=min(_BEST, classes), average="micro", sync_on_compute=False)
    loss, images, began = 0.0, 0, time.perf_counter()
    views = Plain(part, preprocessing)
    # every process takes its share of a batch, which must come out even: the last ones are filled up and taken off again
    batch = max(batch // accelerator.num_processes, 1) * accelerator.num_processes
    loader = accelerator.prepare_data_loader(DataLoader(views, batch, num_workers=workers))
    with torch.inference_mode():
        for pictures, targets in watch(batches(loader), "Looking", len(loader)) if watch else batches(loader):
            with accelerator.autocast():
                logits = network(pictures)
            answers, right = (each.cpu() for each in accelerator.gather_for_metrics((logits.float(), targets)))
            if not answers.isfinite().all():
                raise MpvitError("the network's answers are no numbers", hint="its weights may be damaged")
            loss += functional.cross_entropy(answers.double(), right, reduction="sum").item()
            images += len(right)
            for metric in (confusion, best):
                metric.update(answers, right)
            calibration.update(answers.softmax(-1), right)
    if images != part.pictures:
        raise AssertionError(f"{images} pictures of {part.pictures} were looked at")
    matrix = confusion.compute().tolist()
    return Found(
        confusion=tuple(tuple(map(int, row)) for row in matrix),
        correct5=round(float(best.compute()) * images),
        loss=loss / images,
        calibration_error=float(calibration.compute()),
        seconds=time.perf_counter() - began,
    )


def batches(loader: Iterable[Any]) -> Iterator[Any]:
    """Yield the batches of a loader; an error of a worker process is raised as the one line that it was."""
    iterator = iter(loader)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except MpvitError as error:  # torch has put the worker's traceback into its message
            raise MpvitError(str(error).strip().rpartition("MpvitError: ")[2]) from None
        yield batch

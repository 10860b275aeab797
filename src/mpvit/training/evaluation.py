"""Evaluating a network on pictures: each once, whatever the number of processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from mpvit.errors import MpvitError
from mpvit.training.pixels import Pixels, PixelsFound
from mpvit.training.views import Plain, PlainMasked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from accelerate import Accelerator

    from mpvit.model.metadata import Preprocessing
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

    @property
    def correct(self) -> int:
        """Pictures whose likeliest class is the right one."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def overlap(self) -> None:
        """There is none of whole pictures."""
        return


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
) -> Found | PixelsFound:
    """Return what ``network``, in evaluation mode on the accelerator's device, says of the pictures of ``part``.

    Of a part with masks that is what it says of their pixels.

    With several processes each takes a share of every batch, and all get the whole result. Raises ``MpvitError`` for a
    picture that cannot be read and for answers that are no numbers.
    """
    sums: _Sums | Pixels = Pixels(classes) if part.masks else _Sums(classes)
    views: Plain | PlainMasked = PlainMasked(part, preprocessing) if part.masks else Plain(part, preprocessing)
    began = time.perf_counter()
    # every process takes its share of a batch, which must come out even: the last ones are filled up and taken off again
    batch = max(batch // accelerator.num_processes, 1) * accelerator.num_processes
    loader = accelerator.prepare_data_loader(
        DataLoader(views, batch, num_workers=workers, collate_fn=Pixels.collate if part.masks else None)
    )
    with torch.inference_mode():
        for seen in watch(batches(loader), "Looking", len(loader)) if watch else batches(loader):
            with accelerator.autocast():
                answers = sums.look(network, seen)
            sums.add(*(each.cpu() for each in accelerator.gather_for_metrics(answers)))
    if sums.images != part.pictures:
        raise AssertionError(f"{sums.images} pictures of {part.pictures} were looked at")
    return sums.found(began)


class _Sums:
    """What is added up over the batches."""

    def __init__(self, classes: int) -> None:
        from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix

        self.confusion = MulticlassConfusionMatrix(classes, sync_on_compute=False)
        self.calibration = MulticlassCalibrationError(classes, n_bins=_BINS, norm="l1", sync_on_compute=False)
        self.best = MulticlassAccuracy(classes, top_k=min(_BEST, classes), average="micro", sync_on_compute=False)
        self.loss, self.images = 0.0, 0

    @staticmethod
    def look(network: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of a batch, (b, classes), and its classes, (b)."""
        pictures, targets = batch
        return network(pictures).float(), targets

    def add(self, answers: Tensor, right: Tensor) -> None:
        """Add what ``look`` found in a batch."""
        if not answers.isfinite().all():
            raise MpvitError("the network's answers are no numbers", hint="its weights may be damaged")
        self.loss += functional.cross_entropy(answers.double(), right, reduction="sum").item()
        self.images += len(right)
        for metric in (self.confusion, self.best):
            metric.update(answers, right)
        self.calibration.update(answers.softmax(-1), right)

    def found(self, began: float) -> Found:
        """Return what they come to; ``began`` is on the clock of ``time.perf_counter``."""
        return Found(
            confusion=tuple(tuple(map(int, row)) for row in self.confusion.compute().tolist()),
            correct5=round(float(self.best.compute()) * self.images),
            loss=self.loss / self.images,
            calibration_error=float(self.calibration.compute()),
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

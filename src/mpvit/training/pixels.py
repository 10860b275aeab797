"""How well a segmenter does: pixels counted picture by picture, and what other pictures of the same kind would give.

The intersection over union of a class is that of its pixels in all pictures together; their mean goes over the classes that
masks or answers hold (Everingham et al., IJCV 111, 2015, section 4.3). Intervals are percentiles over pictures drawn with
replacement (Efron, Ann. Stat. 7, 1979): pixels of one picture are no independent trials. The mean goes over the same classes in
each draw; one that a draw has no pixel of counts there as in all pictures, else the mean would move with what is left out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import default_collate

from mpvit.dense.layers import to_size
from mpvit.errors import MpvitError
from mpvit.model.metadata import MeanIoU
from mpvit.training import seed_of
from mpvit.training.results import Interval
from mpvit.training.views import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

RESAMPLES = 2000
"""How often the pictures are drawn anew."""

_AT_ONCE = 100
"""Draws that are added up together: memory for as many numbers a picture."""

Group = tuple["Tensor", list["Tensor"]]
"""Pictures of one size, (b, 3, h, w), and the mask of each, of its own size."""


class PixelsFound(NamedTuple):
    """What an evaluation adds up, and what it comes to.

    Attributes:
        confusion: pixels of each class (row) by the class that the network names (column).
        loss: mean cross-entropy of the pixels that are judged.
        ious: intersection ÷ union of each class; None where there is no pixel of it, in masks and answers.
        iou_intervals: their intervals; None likewise.
        overlap: their mean, and its interval.
        accuracy_interval: of the share of pixels whose class the network names.
        seconds: from the first picture read to the last one answered.
    """

    confusion: tuple[tuple[int, ...], ...]
    loss: float
    ious: tuple[float | None, ...]
    iou_intervals: tuple[Interval | None, ...]
    overlap: MeanIoU
    accuracy_interval: Interval
    seconds: float

    @property
    def correct(self) -> int:
        """Pixels whose likeliest class is the right one."""
        return sum(row[index] for index, row in enumerate(self.confusion))


class Pixels:
    """What is added up over the batches."""

    def __init__(self, classes: int) -> None:
        """Have seen nothing."""
        self.classes = classes
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.counts: list[Tensor] = []  # of each picture (3, classes): pixels of both, of the mask, of the answer
        self.loss = 0.0

    @property
    def images(self) -> int:
        """Pictures seen."""
        return len(self.counts)

    @staticmethod
    def collate(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[Group]:
        """Return pictures and masks of a batch, those of one size that follow each other together."""
        groups: list[list[tuple[Tensor, Tensor]]] = []
        for pair in pairs:
            if groups and groups[-1][0][0].shape == pair[0].shape:
                groups[-1].append(pair)
            else:
                groups.append([pair])
        return [(default_collate([picture for picture, _ in group]), [mask for _, mask in group]) for group in groups]

    def look(self, network: Callable[[Tensor], Tensor], batch: list[Group]) -> tuple[Tensor, Tensor]:
        """Return of each picture its confusion, (b, classes, classes), and the sum of its cross-entropy, (b,)."""
        found = [
            self._judged(logits, mask)
            for pictures, masks in batch
            for logits, mask in zip(network(pictures).float(), masks, strict=True)
        ]
        return torch.stack([confusion for confusion, _ in found]), torch.stack([loss for _, loss in found])

    def _judged(self, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the same of one picture: logits (classes, h, w) and mask (height, width)."""
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        logits = to_size(logits[None], mask.shape)
        if not logits.isfinite().all():
            raise MpvitError("the network's answers are no numbers", hint="its weights may be damaged")
        confusion = multiclass_confusion_matrix(
            logits[0].argmax(0), mask, self.classes, ignore_index=IGNORED, validate_args=False
        )
        return confusion, functional.cross_entropy(logits, mask[None], ignore_index=IGNORED, reduction="sum").double()

    def add(self, confusions: Tensor, losses: Tensor) -> None:
        """Add what ``look`` found in a batch."""
        self.confusion += confusions.sum(0)
        self.loss += losses.sum().item()
        self.counts += [torch.stack((each.diagonal(), each.sum(1), each.sum(0))) for each in confusions]

    def found(self, began: float) -> PixelsFound:
        """Return what they come to; ``began`` is on the clock of ``time.perf_counter``. Raises where no pixel is judged."""
        seconds = time.perf_counter() - began
        pixels = int(self.confusion.sum())
        if not pixels:
            raise MpvitError("no pixel of the pictures held out has a class", hint="255 in a mask stands for none")
        counts = torch.stack(self.counts).numpy()  # (pictures, 3, classes)
        drawn = _drawn(counts)
        whole = _ious(counts.sum(0))
        low, high = _percentiles(np.nanmean(np.where(np.isnan(drawn.ious), whole, drawn.ious), axis=1))
        ious = [None if np.isnan(each) else float(each) for each in whole]
        return PixelsFound(
            confusion=tuple(tuple(row) for row in self.confusion.tolist()),
            loss=self.loss / pixels,
            ious=tuple(ious),
            iou_intervals=tuple(
                None if own is None else _percentiles(each) for own, each in zip(ious, drawn.ious.T, strict=True)
            ),
            overlap=MeanIoU(miou=float(np.nanmean(whole)), low=low, high=high, pixels=pixels),
            accuracy_interval=_percentiles(drawn.accuracy),
            seconds=seconds,
        )


def _ious(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return intersection ÷ union, (..., classes), of (..., 3, classes); NaN where the union is empty."""
    both, mask, answer = np.moveaxis(counts.astype(np.float64), -2, 0)
    union = mask + answer - both
    return np.divide(both, union, out=np.full_like(both, np.nan), where=union > 0)


class _Drawn(NamedTuple):
    ious: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def _drawn(counts: NDArray[np.int64]) -> _Drawn:
    """Return the IoU of each class, (resamples, classes), and the accuracy, of pictures drawn with replacement."""
    rng = np.random.default_rng(seed_of("bootstrap", len(counts)))
    pictures, flat = len(counts), counts.reshape(len(counts), -1).astype(np.float64)
    sums = np.concatenate(
        [
            rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=_AT_ONCE).astype(np.float64) @ flat
            for _ in range(RESAMPLES // _AT_ONCE)
        ]
    ).reshape(RESAMPLES, *counts.shape[1:])
    judged = sums[:, 1].sum(1)
    sums, judged = sums[judged > 0], judged[judged > 0]  # a draw of pictures without any class says nothing
    return _Drawn(_ious(sums), sums[:, 0].sum(1) / judged)


def _percentiles(values: NDArray[np.float64]) -> Interval:
    """Return what 95 % of the values lie between; NaN are passed over."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Interval(float(low), float(high))

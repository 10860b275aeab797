"""Meters that collect the predictions of an evaluation batch by batch, for classifiers and for segmenters.

The intersection over union (IoU) of a class is computed over the pixels of all images together; its mean is taken over the
classes that masks or predictions have (Everingham et al., IJCV 111, 2015, section 4.3). Its intervals are percentiles over
images that are resampled with replacement (Efron, Ann. Stat. 7, 1979), because the pixels of an image are not independent. The
mean is over the same classes in each resample: a class without pixels there counts with its IoU over all images, otherwise the
mean would depend on the classes that are missing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.data import default_collate

from mpvit.dense.layers import to_size
from mpvit.errors import MpvitError
from mpvit.model.metadata import MeanIoU
from mpvit.training import seed_of
from mpvit.training.metrics import ClassificationMetrics, Interval, SegmentationMetrics
from mpvit.training.transforms import IGNORE_INDEX

RESAMPLES = 2000
"""Number of resamples of the images for an interval."""

_CHUNK = 100
"""Resamples that are computed together, which bounds the memory."""

_BINS = 15
"""Bins of confidence for the calibration error, as in Guo et al., ICML 2017 (arXiv:1706.04599)."""

_TOP_K = 5

SizeGroup = tuple["Tensor", list["Tensor"]]
"""Images of one size, (b, 3, h, w), and the mask of each, of its own size."""


class ClassificationMeter:
    """Collects the predictions of a classifier."""

    collate = None

    def __init__(self, classes: int) -> None:
        from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassConfusionMatrix

        self.confusion = MulticlassConfusionMatrix(classes, sync_on_compute=False)
        self.calibration = MulticlassCalibrationError(classes, n_bins=_BINS, norm="l1", sync_on_compute=False)
        self.top5 = MulticlassAccuracy(classes, top_k=min(_TOP_K, classes), average="micro", sync_on_compute=False)
        self.loss, self.images = 0.0, 0

    def predict(self, network: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of a batch, (b, classes), and its targets, (b,)."""
        images, targets = batch
        return network(images).float(), targets

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add the predictions of a batch; raise ``MpvitError`` for logits that are not finite."""
        require_finite(logits)
        self.loss += functional.cross_entropy(logits.double(), targets, reduction="sum").item()
        self.images += len(targets)
        self.confusion.update(logits, targets)
        self.top5.update(logits, targets)
        self.calibration.update(logits.softmax(-1), targets)

    def compute(self, seconds: float) -> ClassificationMetrics:
        """Return the metrics of all batches."""
        return ClassificationMetrics(
            confusion=tuple(map(tuple, self.confusion.compute().tolist())),
            correct5=round(float(self.top5.compute()) * self.images),
            loss=self.loss / self.images,
            calibration_error=float(self.calibration.compute()),
            seconds=seconds,
        )


class SegmentationMeter:
    """Collects the confusion matrix of each image of a segmenter."""

    def __init__(self, classes: int) -> None:
        from torchmetrics.functional.classification import multiclass_confusion_matrix

        self.confusion_matrix = partial(
            multiclass_confusion_matrix, num_classes=classes, ignore_index=IGNORE_INDEX, validate_args=False
        )
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)
        self.counts: list[Tensor] = []  # of each image (3, classes): pixels of the intersection, the mask, the prediction
        self.loss = 0.0

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.counts)

    @staticmethod
    def collate(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[SizeGroup]:
        """Return the images and masks of a batch, consecutive images of one size in one group."""
        groups = [list(group) for _, group in groupby(pairs, key=lambda pair: pair[0].shape)]
        return [(default_collate([image for image, _ in group]), [mask for _, mask in group]) for group in groups]

    def predict(self, network: Callable[[Tensor], Tensor], batch: list[SizeGroup]) -> tuple[Tensor, Tensor]:
        """Return the confusion matrix of each image, (b, classes, classes), and the sum of its cross-entropy, (b,)."""
        confusions, losses = [], []
        for images, masks in batch:
            for small, mask in zip(network(images).float(), masks, strict=True):
                logits = to_size(small[None], mask.shape)
                require_finite(logits)
                confusions.append(self.confusion_matrix(logits[0].argmax(0), mask))
                losses.append(functional.cross_entropy(logits, mask[None], ignore_index=IGNORE_INDEX, reduction="sum"))
        return torch.stack(confusions), torch.stack(losses).double()

    def update(self, confusions: Tensor, losses: Tensor) -> None:
        """Add the result of ``predict`` for a batch."""
        self.confusion += confusions.sum(0)
        self.loss += losses.sum().item()
        self.counts += [torch.stack((each.diagonal(), each.sum(1), each.sum(0))) for each in confusions]

    def compute(self, seconds: float) -> SegmentationMetrics:
        """Return the metrics of all batches; raise ``MpvitError`` if no pixel has a class."""
        pixels = int(self.confusion.sum())
        if not pixels:
            raise MpvitError("no pixel of the held-out images has a class", hint="255 in a mask means no class")
        counts = torch.stack(self.counts).numpy()  # (images, 3, classes)
        resampled, accuracies = _resampled(counts)
        ious = _ious(counts.sum(0))
        low, high = _percentiles(np.nanmean(np.where(np.isnan(resampled), ious, resampled), axis=1))
        return SegmentationMetrics(
            confusion=tuple(map(tuple, self.confusion.tolist())),
            loss=self.loss / pixels,
            seconds=seconds,
            ious=tuple(None if np.isnan(iou) else float(iou) for iou in ious),
            iou_intervals=tuple(
                None if np.isnan(iou) else _percentiles(values) for iou, values in zip(ious, resampled.T, strict=True)
            ),
            overlap=MeanIoU(miou=float(np.nanmean(ious)), low=low, high=high, pixels=pixels),
            accuracy_interval=_percentiles(accuracies),
        )


def require_finite(logits: Tensor) -> None:
    """Raise ``MpvitError`` for logits that are not finite."""
    if not logits.isfinite().all():
        raise MpvitError("the predictions of the network are not finite numbers", hint="its weights may be damaged")


def _ious(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Map counts (..., 3, classes) to intersection over union (..., classes); NaN where the union is empty."""
    both, mask, predicted = np.moveaxis(counts.astype(np.float64), -2, 0)
    union = mask + predicted - both
    return np.divide(both, union, out=np.full_like(both, np.nan), where=union > 0)


def _resampled(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the IoU of each class, (resamples, classes), and the accuracy, (resamples,), of resampled images."""
    rng = np.random.default_rng(seed_of("bootstrap", len(counts)))
    images, flat = len(counts), counts.reshape(len(counts), -1).astype(np.float64)
    weights = np.full(images, 1 / images)
    sums = np.concatenate(
        [rng.multinomial(images, weights, size=_CHUNK).astype(np.float64) @ flat for _ in range(RESAMPLES // _CHUNK)]
    ).reshape(RESAMPLES, *counts.shape[1:])
    labelled = sums[:, 1].sum(1)
    sums, labelled = sums[labelled > 0], labelled[labelled > 0]  # a resample without labelled pixels has no metrics
    return _ious(sums), sums[:, 0].sum(1) / labelled


def _percentiles(values: NDArray[np.float64]) -> Interval:
    """Return the interval that holds 95 % of the values; NaN are ignored."""
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return Interval(float(low), float(high))

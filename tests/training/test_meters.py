"""Metrics of segmenters compared with a count in two loops and with torchmetrics; intervals with a normal distribution."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from generated_masks import GeneratedImages, noise
from torch import Tensor

from mpvit.errors import MpvitError
from mpvit.model.metadata import Preprocessing
from mpvit.training.distributed import make_accelerator
from mpvit.training.evaluation import evaluate_split
from mpvit.training.metrics import SegmentationMetrics

PREPROCESSING = Preprocessing(32, 1.0)


def metrics_of(
    source: GeneratedImages, network: Callable[[Tensor], Tensor], classes: int, batch: int = 3
) -> SegmentationMetrics:
    found = evaluate_split(network, source.split, PREPROCESSING, make_accelerator("cpu"), classes, batch)
    assert isinstance(found, SegmentationMetrics)
    return found


def colours(images: Tensor) -> Tensor:
    """Logits of four classes that depend on each pixel: its colours, and how similar they are."""
    return torch.cat((images, 0.3 - images.std(1, keepdim=True)), dim=1)


def ones(images: Tensor) -> Tensor:
    """Logits of two classes that predict the second one everywhere."""
    return torch.stack((images[:, 0] * 0, images[:, 0] * 0 + 1), dim=1)


def test_the_mean_iou_is_what_two_loops_count() -> None:
    from torchmetrics.classification import MulticlassJaccardIndex

    classes, source = 4, noise(7, 4)
    found = metrics_of(source, colours, classes)
    both, union, right, labelled, loss = [0] * classes, [0] * classes, 0, 0, 0.0
    mean, std = np.array(PREPROCESSING.mean), np.array(PREPROCESSING.std)
    predictions, masks = [], []
    for image, mask in zip(source.images, source.masks, strict=True):
        values = ((image / 255 - mean) / std).astype(np.float32)  # the short side is 32 already
        logits = colours(torch.from_numpy(values.transpose(2, 0, 1))[None])[0]
        predictions.append(logits.argmax(0).flatten())
        masks.append(torch.from_numpy(mask.astype(np.int64)).flatten())
        for down in range(mask.shape[0]):
            for across in range(mask.shape[1]):
                true, predicted = int(mask[down, across]), int(logits[:, down, across].argmax())
                if true == 255:
                    continue
                labelled, right = labelled + 1, right + (true == predicted)
                loss -= float(logits[:, down, across].double().log_softmax(0)[true])
                both[true] += true == predicted
                for each in {true, predicted}:
                    union[each] += 1
    assert found.ious == pytest.approx([one / other for one, other in zip(both, union, strict=True)], rel=1e-12)
    assert found.overlap.miou == pytest.approx(sum(found.ious) / 4, rel=1e-12)  # type: ignore[arg-type]
    assert (found.overlap.pixels, found.correct) == (labelled, right)
    assert found.loss == pytest.approx(loss / labelled, rel=1e-5)
    assert found.overlap.low < found.overlap.miou < found.overlap.high
    second = MulticlassJaccardIndex(classes, ignore_index=255)
    second.update(torch.cat(predictions), torch.cat(masks))
    assert found.overlap.miou == pytest.approx(float(second.compute()), rel=1e-6)


def test_a_class_without_pixels_is_left_out_of_the_mean() -> None:
    found = metrics_of(noise(4, 3), lambda images: torch.cat((images, images[:, :1] - 9), dim=1), 4)
    assert found.ious[3] is None
    assert found.iou_intervals[3] is None
    assert found.overlap.miou == pytest.approx(np.mean([each for each in found.ious if each is not None]))


def test_the_interval_is_that_of_a_mean_over_images() -> None:
    """For images of one size without unlabelled pixels, pixel accuracy is a mean over images: ± 1.96 standard errors."""
    source = noise(120, 2)
    source.images[:] = [each[:32, :32] for each in source.images]
    rng = np.random.default_rng(0)
    shares = rng.beta(2, 2, len(source.images))
    source.masks[:] = [(rng.random((32, 32)) < share).astype(np.uint8) for share in shares]
    found = metrics_of(source, ones, 2, 16)
    right = [each.mean() for each in source.masks]
    error = np.std(right, ddof=1) / len(right) ** 0.5
    low, high = found.accuracy_interval.low, found.accuracy_interval.high
    assert (low + high) / 2 == pytest.approx(np.mean(right), abs=0.2 * error)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert metrics_of(source, ones, 2, 5).overlap == found.overlap


def test_images_without_labelled_pixels_have_no_metrics() -> None:
    source = noise(2, 2)
    source.masks[:] = [np.full_like(each, 255) for each in source.masks]
    with pytest.raises(MpvitError, match="no pixel of the held-out images has a class"):
        metrics_of(source, colours, 4)


def test_predictions_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MpvitError, match="are not finite numbers"):
        metrics_of(noise(2, 2), lambda images: colours(images) * float("nan"), 4)

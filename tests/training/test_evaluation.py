"""Intervals compared with SciPy's, evaluations with scikit-learn's metrics."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from generated_masks import noise
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mpvit.errors import MpvitError
from mpvit.model.metadata import Preprocessing
from mpvit.plots.training import confusion_figure
from mpvit.training.data import open_data
from mpvit.training.data.splits import Data, with_classes_of
from mpvit.training.distributed import make_accelerator
from mpvit.training.evaluation import evaluate_split
from mpvit.training.metrics import ClassificationMetrics, wilson
from mpvit.training.results import Evaluation


@given(st.integers(1, 5000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_intervals_are_wilsons(pair: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    expected = binomtest(*pair).proportion_ci(0.95, method="wilson")
    assert wilson(*pair) == pytest.approx((expected.low, expected.high), abs=1e-12)


class Guessing(torch.nn.Module):
    """Logits that depend only on the image: (b, 3, h, w) -> (b, 10)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, 40 : 40 + 400].unflatten(1, (10, 40)).mean(-1)


def test_an_evaluation_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score

    split = open_data("digits").held_out
    seen: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        seen.append(Guessing()(x))
        return seen[-1]

    found = evaluate_split(network, split, Preprocessing(32, 1.0), make_accelerator("cpu"), 10, 64)
    assert isinstance(found, ClassificationMetrics)
    logits, targets = torch.cat(seen), np.array(split.targets)
    shares = logits.double().softmax(-1).numpy()
    predicted = logits.argmax(-1).numpy()
    assert (found.count, len(seen)) == (360, 6)
    assert np.array_equal(np.array(found.confusion), confusion_matrix(targets, predicted, labels=range(10)))
    row = found.as_row()
    assert row["top1"] == pytest.approx(accuracy_score(targets, predicted))
    assert row["top5"] == pytest.approx(top_k_accuracy_score(targets, shares, k=5))
    assert found.loss == pytest.approx(log_loss(targets, shares, labels=range(10)))
    assert found.calibration_error == pytest.approx(calibration(shares, targets), abs=1e-6)
    by_class = {each.name: each for each in found.by_class("0123456789")}
    assert by_class["3"].count == (targets == 3).sum()
    assert by_class["3"].correct == ((targets == 3) & (predicted == 3)).sum()
    assert by_class["3"].predicted == (predicted == 3).sum()


@pytest.mark.parametrize(
    ("classes", "turned"), [(tuple("0123456789"), 0), (tuple(f"{n:03}" for n in range(30)), 0), (("triangle", "no"), 45)]
)
def test_names_of_classes_are_upright_where_they_fit(classes: tuple[str, ...], turned: int) -> None:
    count = len(classes)
    every = tuple(tuple(int(down == across) for across in range(count)) for down in range(count))
    metrics = ClassificationMetrics(confusion=every, correct5=count, loss=0.0, calibration_error=0.0, seconds=1.0)
    names = {"data": "digits", "part": "all", "model": "", "task": "", "weights": ""}
    figure = confusion_figure(Evaluation(**names, classes=classes, images=count, damaged=(), metrics=metrics))
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    assert [label.get_rotation() for label in labels] == [turned] * count
    boxes = [label.get_window_extent() for label in labels]
    assert turned or all(left.x1 < right.x0 for left, right in pairwise(boxes))


def calibration(shares: np.ndarray, targets: np.ndarray) -> float:
    """Guo et al., equation 3, over 15 bins."""
    confidence, right = shares.max(-1), shares.argmax(-1) == targets
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(right[bins == each].mean() - confidence[bins == each].mean()) * (bins == each).mean() for each in set(bins)]
    return float(sum(gaps))


def test_predictions_that_are_not_finite_are_an_error() -> None:
    split = open_data("digits").held_out
    with pytest.raises(MpvitError, match="not finite numbers"):
        evaluate_split(
            lambda x: x.new_full((len(x), 10), float("nan")), split, Preprocessing(32, 1.0), make_accelerator("cpu"), 10, 64
        )


def test_masks_get_the_class_indices_of_the_network() -> None:
    source = noise(1, 3)
    data = Data("noise", "noise", ("a", "b", "c"), source.split, source.split)
    found = np.asarray(with_classes_of(data.train, data, ("b", "d", "a", "e", "f", "c")).mask(0))
    assert np.array_equal(found, np.select([source.masks[0] == index for index in range(3)], [2, 0, 5], 255))

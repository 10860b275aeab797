"""Intervals against SciPy's, evaluations against scikit-learn's metrics."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss, top_k_accuracy_score
from torch import Tensor

from mpvit.errors import MpvitError
from mpvit.model.metadata import Preprocessing
from mpvit.plots.training import confusion_figure
from mpvit.training.data import open_data
from mpvit.training.evaluation import evaluate
from mpvit.training.processes import accelerator_of
from mpvit.training.results import Evaluation, wilson


@given(st.integers(1, 5000).flatmap(lambda images: st.tuples(st.integers(0, images), st.just(images))))
def test_intervals_are_wilsons(pair: tuple[int, int]) -> None:
    expected = binomtest(*pair).proportion_ci(0.95, method="wilson")
    assert wilson(*pair) == pytest.approx((expected.low, expected.high), abs=1e-12)


class Guessing(torch.nn.Module):
    """Logits that depend on the picture alone: (b, 3, h, w) -> (b, 10)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, 40 : 40 + 400].unflatten(1, (10, 40)).mean(-1)


def test_an_evaluation_is_what_scikit_learn_says() -> None:
    part, how = open_data("digits").held_out, Preprocessing(32, 1.0)
    seen: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        seen.append(Guessing()(x))
        return seen[-1]

    found = evaluate(network, part, how, accelerator_of("cpu"), classes=10, batch=64, workers=0)
    logits, targets = torch.cat(seen), np.array(part.targets)
    shares = logits.double().softmax(-1).numpy()
    named = logits.argmax(-1).numpy()
    whole = Evaluation(data="digits", part="held-out", model="", weights="", classes=tuple("0123456789"), **found._asdict())
    assert (whole.images, len(seen)) == (360, 6)
    assert np.array_equal(np.array(whole.confusion), confusion_matrix(targets, named, labels=range(10)))
    assert whole.top1 == pytest.approx(accuracy_score(targets, named))
    assert whole.top5 == pytest.approx(top_k_accuracy_score(targets, shares, k=5))
    assert whole.loss == pytest.approx(log_loss(targets, shares, labels=range(10)))
    assert whole.calibration_error == pytest.approx(calibration(shares, targets), abs=1e-6)
    by_class = {each.name: each for each in whole.by_class}
    assert by_class["3"].images == (targets == 3).sum()
    assert by_class["3"].correct == ((targets == 3) & (named == 3)).sum()
    assert by_class["3"].predicted == (named == 3).sum()


@pytest.mark.parametrize(
    ("classes", "turned"), [(tuple("0123456789"), 0), (tuple(f"{n:03}" for n in range(30)), 0), (("triangle", "no"), 45)]
)
def test_names_of_classes_are_upright_where_they_fit(classes: tuple[str, ...], turned: int) -> None:
    count = len(classes)
    every = tuple(tuple(int(down == across) for across in range(count)) for down in range(count))
    figure = confusion_figure(
        Evaluation(
            data="digits",
            part="all",
            model="",
            weights="",
            classes=classes,
            confusion=every,
            correct5=count,
            loss=0.0,
            calibration_error=0.0,
            seconds=1.0,
        )
    )
    figure.draw_without_rendering()
    names = figure.axes[0].get_xticklabels()
    assert [name.get_rotation() for name in names] == [turned] * count
    boxes = [name.get_window_extent() for name in names]
    assert turned or all(left.x1 < right.x0 for left, right in pairwise(boxes))


def calibration(shares: np.ndarray, targets: np.ndarray) -> float:
    """Guo et al., equation 3, over 15 bins."""
    confidence, right = shares.max(-1), shares.argmax(-1) == targets
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs(right[bins == each].mean() - confidence[bins == each].mean()) * (bins == each).mean() for each in set(bins)]
    return float(sum(gaps))


def test_answers_that_are_no_numbers_end_it() -> None:
    part = open_data("digits").held_out
    with pytest.raises(MpvitError, match="no numbers"):
        evaluate(
            lambda x: x.new_full((len(x), 10), float("nan")),
            part,
            Preprocessing(32, 1.0),
            accelerator_of("cpu"),
            classes=10,
            batch=64,
            workers=0,
        )

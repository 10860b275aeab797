"""CKA: of known matrices, unchanged by what should change nothing, and against sums over all tuples of pictures."""

from itertools import permutations

import pytest
import torch
from drawn_networks import SMALL, SUMMED, drawn, images
from torch import Tensor

from mpvit.architecture.config import ModelConfig
from mpvit.errors import MpvitError, UsageError
from mpvit.paths.similarity import aligned, gram, similarities, unbiased_hsic


def features(pictures: int, channels: int, seed: int) -> Tensor:
    return torch.randn(pictures, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cka(x: Tensor, y: Tensor) -> float:
    value = aligned(unbiased_hsic(torch.stack([gram(x), gram(y)])))[0][1]
    assert value is not None
    return value


def by_tuples(k: Tensor, kernel: Tensor) -> float:
    """Unbiased HSIC as its definition has it: means over all pairs, quadruples and triples of different pictures."""
    n = len(k)
    pairs = [k[i, j] * kernel[i, j] for i, j in permutations(range(n), 2)]
    fours = [k[i, j] * kernel[p, q] for i, j, p, q in permutations(range(n), 4)]
    threes = [k[i, j] * kernel[i, q] for i, j, q in permutations(range(n), 3)]
    return float(sum(pairs) / len(pairs) + sum(fours) / len(fours) - 2 * sum(threes) / len(threes))


@pytest.mark.parametrize("pictures", [4, 5, 8])
def test_hsic_is_its_definition(pictures: int) -> None:
    """Gretton et al., ALT 2005: E[kl] + E[k]E[l] - 2E[E[k|x]E[l|y]], each mean over different pictures."""
    x, y = features(pictures, 3, 0), features(pictures, 2, 1) + 0.5 * features(pictures, 3, 0)[:, :2]
    found = unbiased_hsic(torch.stack([gram(x), gram(y)]))
    k, kernel = x @ x.T, y @ y.T  # the mean not taken off: it changes nothing
    assert found[0, 1] == pytest.approx(by_tuples(k, kernel), rel=1e-9)
    assert found[0, 0] == pytest.approx(by_tuples(k, k), rel=1e-9)
    assert torch.equal(found, found.T)


def test_cka_of_a_representation_with_itself_is_1_whatever_its_scale_place_and_turn() -> None:
    x = features(50, 20, 0)
    turn, _ = torch.linalg.qr(features(20, 20, 1))
    assert cka(x, x) == pytest.approx(1, abs=1e-12)
    assert cka(x, -7 * x @ turn + 3) == pytest.approx(1, abs=1e-12)
    y = features(50, 30, 2) + torch.nn.functional.pad(x, (0, 10))
    assert 0.1 < cka(x, y) < 0.9
    assert cka(x, y) == pytest.approx(cka(0.01 * x @ turn, y + 5), abs=1e-12)
    assert cka(x, x @ torch.diag(torch.arange(20.0).double())) < 0.95  # no mere turn and scale


def test_cka_of_independent_features_is_0_on_average_also_with_more_features_than_pictures() -> None:
    values = torch.tensor([cka(features(64, 500, 2 * seed), features(64, 500, 2 * seed + 1)) for seed in range(40)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / 40**0.5
    assert values.abs().max() < 0.1


def test_the_biased_estimator_would_not_be_0() -> None:
    """Why it is not taken: with more features than pictures everything looks alike to it."""
    centred = [gram(features(64, 500, seed)) for seed in (0, 1)]
    biased = (centred[0] * centred[1]).sum() / (centred[0].norm() * centred[1].norm())
    assert biased > 0.8


@pytest.mark.parametrize("config", [SMALL, SUMMED], ids=["concat", "sum"])
def test_a_networks_matrix_is_that_of_its_outputs_in_minibatches(config: ModelConfig) -> None:
    network, x = drawn(config), images(24)
    found = similarities(network, [x[:10], x[10:]])
    assert found.images == 24
    assert len(set(found.names)) == len(found.names) == sum(s.paths + s.local + 1 for s in config.stages)
    matrix = torch.tensor(found.matrix)
    assert torch.equal(matrix, matrix.T)
    assert torch.allclose(matrix.diagonal(), torch.ones(len(matrix)))
    with torch.no_grad():
        outputs = [network.forward_features(each) for each in (x[:10], x[10:])]
    sums = sum(unbiased_hsic(torch.stack([gram(first), gram(last)])) for first, last in outputs)
    expected = sums[0, 1] / (sums[0, 0] * sums[1, 1]).sqrt()  # type: ignore[index]
    i, j = (found.names.index(f"stage {number} output") for number in (2, 3))
    assert matrix[i, j] == pytest.approx(float(expected))


def test_what_never_varies_has_no_similarity() -> None:
    found = aligned(unbiased_hsic(torch.stack([gram(features(8, 3, 0)), gram(torch.ones(8, 3))])))
    assert found[0][0] == pytest.approx(1)
    assert found[0][1] is found[1][1] is None


def test_too_few_pictures_and_damaged_weights_are_said_so() -> None:
    network = drawn(SMALL)
    with pytest.raises(UsageError, match="similarity of 3 images at a time: must be at least 4"):
        similarities(network, [images(3)])
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(MpvitError, match="values that are not finite"):
        similarities(network, [images(4)])

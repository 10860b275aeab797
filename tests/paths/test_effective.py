"""Effective fields against whole Jacobians, differences of two forward passes, and discs of known energy."""

from itertools import product

import numpy as np
import pytest
import torch
from drawn_networks import SMALL, drawn, images
from torch import Tensor

from mpvit.architecture.config import FIRST_STAGE
from mpvit.errors import MpvitError
from mpvit.paths.effective import centre, effective_fields, energy, radius
from mpvit.paths.fields import path_fields
from mpvit.paths.hooks import record_outputs, stage_branches


def test_the_mean_over_all_signs_is_the_jacobians_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one draw estimates: products of two channels' derivatives cancel out, squares stay."""
    network, x = drawn(SMALL), images(1, 16).requires_grad_()
    path = stage_branches(network)[1].paths[2]

    def token(image: Tensor) -> Tensor:
        with record_outputs([path]) as found:
            network(image)
        return centre(found[path][0])

    jacobian = torch.autograd.functional.jacobian(token, x)[0, :, 0]  # (c, 3, h, w)
    found = token(x)
    energies = []
    for signs in product((0, 1), repeat=found.shape[1]):
        monkeypatch.setattr(torch, "randint", lambda *_, drawn=signs, **__: torch.tensor([drawn]))
        energies.append(energy(found, x, torch.Generator())[0])
    assert torch.allclose(torch.stack(energies).mean(0), jacobian.square().sum((0, 1)), rtol=1e-10)


def test_a_derivative_is_a_difference_of_two_forward_passes() -> None:
    network, x = drawn(SMALL), images(1, 16)
    path = stage_branches(network)[0].paths[1]
    step = 1e-6
    moves = step * torch.eye(3 * 16 * 16, dtype=torch.float64).reshape(-1, 3, 16, 16)
    values = []
    for moved in (x + moves, x - moves):
        with record_outputs([path]) as found, torch.no_grad():
            network(moved)
        values.append(centre(found[path][1]))  # (pixels, c)
    squares = ((values[0] - values[1]) / (2 * step)).square().sum(1).reshape(3, 16, 16).sum(0)
    expected = (squares / squares.sum()).numpy()
    many = effective_fields(network, [x.repeat(1000, 1, 1, 1)])[1].encoded  # so many draws of signs
    assert np.abs(many - expected).max() < 0.1 * expected.max()


def test_before_any_attention_all_energy_is_within_the_receptive_field() -> None:
    found = effective_fields(drawn(SMALL), [images(2, 64), images(3, 64)])
    assert [each.field for each in found] == list(path_fields(SMALL))
    for each in found:
        assert each.embedded.sum() == pytest.approx(1)
        assert each.token == (32, 32)
        outside = each.embedded.copy()
        reach = each.field.receptive_field // 2
        outside[32 - reach : 33 + reach, 32 - reach : 33 + reach] = 0
        assert each.inside == pytest.approx(1 - outside.sum(), abs=1e-12)
        if each.field.stage == FIRST_STAGE:
            assert outside.max() == 0
        else:  # attention of stage 2 reaches every pixel
            assert outside[0, 0] > 0
        assert each.encoded.min() > 0


@pytest.mark.parametrize("side", [21, 41])
def test_half_of_an_even_disc_is_within_its_radius_by_root_two(side: int) -> None:
    down, across = np.indices((side, side))
    middle = side // 2
    disc = (np.hypot(down - middle, across - middle) <= middle).astype(float)
    assert radius(disc, middle, middle) == pytest.approx(middle / 2**0.5, abs=0.75)
    assert radius(disc, middle, middle, part=1) == middle


def test_weights_that_are_no_numbers_are_said_so() -> None:
    network = drawn(SMALL)
    with torch.no_grad():
        next(network.parameters()).fill_(float("nan"))
    with pytest.raises(MpvitError, match="no gradient of a token reaches the image, or it is not finite"):
        effective_fields(network, [images(1)])

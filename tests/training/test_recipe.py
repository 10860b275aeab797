"""Recipes: the published defaults, the schedule compared with torch's own, and values that are refused."""

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from mpvit.errors import UsageError
from mpvit.training.recipe import RECIPES, Recipe, get_recipe, override


def test_the_default_is_deits_recipe() -> None:
    """Touvron et al., table 9: batch 1024, rate 5e-4 of 512, decay 0.05, 5 of 300 epochs warm-up, and its augmentations."""
    deit = get_recipe("deit")
    assert deit == Recipe()
    assert (deit.epochs, deit.batch, deit.warmup, deit.weight_decay, deit.smoothing) == (300, 1024, 5, 0.05, 0.1)
    assert (deit.mixup, deit.cutmix, deit.erasing, deit.operations, deit.magnitude) == (0.8, 1.0, 0.25, 2, 9)
    assert deit.peak_rate == pytest.approx(1e-3)


def test_the_rate_falls_as_torchs_cosine_does() -> None:
    recipe = Recipe(epochs=7, warmup=2, batch=512)
    steps = 5
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.peak_rate)
    schedule = CosineAnnealingLR(optimizer, T_max=5 * steps - 1, eta_min=recipe.last_rate)
    for step in range(2 * steps, 7 * steps):
        assert recipe.rate_at(step, steps) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        schedule.step()


def test_the_rate_rises_evenly_from_above_zero() -> None:
    recipe = Recipe(epochs=7, warmup=2, batch=512)
    rates = [recipe.rate_at(step, 5) for step in range(11)]
    assert rates[0] > 0
    assert torch.tensor(rates).diff().tolist() == pytest.approx([recipe.peak_rate / 11] * 10, rel=1e-4)
    assert max(recipe.rate_at(step, 5) for step in range(35)) == rates[10] == recipe.peak_rate


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_last_step_has_the_last_rate(recipe: Recipe) -> None:
    assert recipe.rate_at(recipe.epochs * 11 - 1, 11) == pytest.approx(recipe.last_rate)


def test_the_average_forgets_the_first_weights() -> None:
    """With a constant decay of 0.99996, 200 steps would keep 99 % of the first weights."""
    kept = 1.0
    for step in range(200):
        kept *= Recipe().average_at(step)
    assert kept < 1e-6
    assert Recipe().average_at(10**7) == 0.99996


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"epochs": "12", "lr_": None}, None),
        ({"epochs": "12"}, {"epochs": 12}),
        ({"mixup": "0"}, {"mixup": 0.0}),
        ({"rate": "1e-3", "dtype": "bfloat16"}, {"rate": 1e-3, "dtype": "bfloat16"}),
        ({"epochs": None}, {}),
    ],
)
def test_settings_may_be_words(changes: dict[str, Any], found: dict[str, Any] | None) -> None:
    if found is None:
        with pytest.raises(UsageError, match="unknown setting 'lr_'"):
            override(Recipe(), changes)
    else:
        assert override(Recipe(), changes) == Recipe(**found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": "0"}, ("epochs = 0", "from 1")),
        ({"epochs": "3.5"}, ("epochs = '3.5'", "whole number")),
        ({"epochs": "many"}, ("epochs = 'many'", "whole number")),
        ({"rate": "nan"}, ("rate = nan", "from 0 to 100")),
        ({"rate": "-1"}, ("rate = -1", "from 0")),
        ({"smoothing": "1"}, ("smoothing = 1", "0.99")),
        ({"size": "16"}, ("size = 16", "from 32")),
        ({"dtype": "float16"}, ("unknown dtype 'float16'", "float32, bfloat16")),
        ({"batch": "10", "accumulate": "3"}, ("batch = 10", "multiple of accumulate = 3")),
        ({"epoch": "3"}, ("unknown setting 'epoch'", "epochs")),
    ],
)
def test_unknown_settings_and_values_out_of_range_are_refused(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        override(Recipe(), changes)
    assert all(word in str(caught.value) for word in words)

"""Pictures as a network sees them: drawn from what names them, mixed as the papers say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import paint
from PIL import Image

from mpvit.images import preprocess, read_image
from mpvit.model.metadata import Preprocessing
from mpvit.training.data import Data, open_data
from mpvit.training.recipe import RECIPES, Recipe
from mpvit.training.views import Changed, Order, Place, Plain, mixed

DEIT = replace(RECIPES["deit"], size=32)
HOW = Preprocessing(32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(str(paint(tmp_path_factory.mktemp("data") / "fruit", {"apple": 10, "pear": 10}, size=40)))


@pytest.mark.parametrize("recipe", [DEIT, RECIPES["small"]], ids=["deit", "small"])
def test_a_picture_is_changed_by_what_names_it_alone(recipe: Recipe, data: Data) -> None:
    views = Changed(data.train, recipe, HOW)
    first, target = views[Place(3, 5)]
    assert (tuple(first.shape), first.dtype, target) == ((3, 32, 32), torch.float32, data.train.targets[5])
    before = torch.get_rng_state()
    again = Changed(data.train, recipe, HOW)[Place(3, 5)][0]
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    others = [Place(4, 5), Place(3, 6)]
    assert all(not torch.equal(first, views[place][0]) for place in others)
    assert not torch.equal(first, Changed(data.train, replace(recipe, seed=1), HOW)[Place(3, 5)][0])


def test_with_nothing_to_change_a_picture_is_as_in_evaluation(data: Data) -> None:
    still = replace(RECIPES["small"], shift=0.0, crop=0.875)
    for index in range(3):
        changed, plain = Changed(data.train, still, HOW)[Place(0, index)], Plain(data.train, HOW)[index]
        torch.testing.assert_close(changed[0], plain[0], atol=1e-5, rtol=1e-5)
        assert changed[1] == plain[1]


def test_evaluation_sees_what_predict_shows(data: Data) -> None:
    name = data.held_out.name(2)
    shown = preprocess(read_image(Path(data.where) / name), HOW)
    np.testing.assert_array_equal(Plain(data.held_out, HOW)[2][0].numpy(), shown)


def test_a_crop_is_a_part_of_the_picture(tmp_path: Path) -> None:
    """A ramp from black to white across: a crop of a quarter and more keeps its order and part of its range."""
    folder = paint(tmp_path / "ramps", {"a": 3, "b": 3})
    ramp = np.repeat(np.linspace(0, 255, 64)[None, :], 64, 0).astype(np.uint8)
    for path in folder.rglob("*.png"):
        Image.fromarray(ramp).convert("RGB").save(path)
    recipe = Recipe(size=32, resized_crop=0.25, flip=0, operations=0, erasing=0)
    views = Changed(open_data(str(folder)).train, recipe, replace(HOW, mean=(0, 0, 0), std=(1, 1, 1)))
    spans = []
    for epoch in range(20):
        row = views[Place(epoch, 0)][0].mean((0, 1))
        assert (row.diff() > -1e-3).all()
        spans.append(float(row[-1] - row[0]))
    assert 0.25 < min(spans) < 0.7
    assert max(spans) <= 1


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_an_epoch_has_each_picture_once_in_whole_steps(pictures: int, batch: int, epoch: int) -> None:
    order = Order(pictures, batch, seed=7)
    order.epoch = epoch
    places = list(order)
    assert len(places) == len(order) == (pictures // batch * batch or pictures)
    assert len({place.picture for place in places}) == len(places)
    assert {place.epoch for place in places} == {epoch}
    order.start = min(1, order.steps - 1)
    assert list(order) == places[order.start * batch :]
    order.epoch, order.start = epoch + 1, 0
    assert pictures < 6 or list(order) != places


BATCH, TARGETS = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)
PARTNERS = torch.tensor([1, 0, 3, 2, 5, 4])


def test_mixup_is_a_mean_of_neighbours_and_of_their_losses() -> None:
    recipe = Recipe(cutmix=0, smoothing=0)
    shares = []
    for step in range(20):
        found = mixed(BATCH, TARGETS, recipe, step)
        shares.append(found.share)
        expected = (1 - found.share) * BATCH + found.share * BATCH[PARTNERS]
        torch.testing.assert_close(found.images, expected)
        assert found.others.tolist() == PARTNERS.tolist()
        logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(step))
        soft = (1 - found.share) * torch.eye(6) + found.share * torch.eye(6)[PARTNERS]
        torch.testing.assert_close(found.loss(logits, 0.0), torch.nn.functional.cross_entropy(logits, soft))
    assert len(set(shares)) == 20


def test_cutmix_is_a_rectangle_of_the_neighbour_as_large_as_its_share() -> None:
    for step in range(20):
        found = mixed(BATCH, TARGETS, Recipe(mixup=0), step)
        from_partner = (found.images == BATCH[PARTNERS]).all(1)
        from_own = (found.images == BATCH).all(1)
        assert (from_partner ^ from_own).all()
        assert from_partner.float().mean((1, 2)).tolist() == pytest.approx([found.share] * 6)


def test_halves_of_a_batch_are_mixed_as_the_whole_is() -> None:
    """What two processes do."""
    for step in range(10):
        whole = mixed(BATCH[:4], TARGETS[:4], Recipe(), step)
        halves = [mixed(BATCH[part], TARGETS[part], Recipe(), step) for part in (slice(0, 2), slice(2, 4))]
        assert torch.equal(whole.images, torch.cat([half.images for half in halves]))
        assert {half.share for half in halves} == {whole.share}


def test_the_last_of_an_odd_number_and_a_recipe_without_stay_themselves() -> None:
    assert torch.equal(mixed(BATCH[:5], TARGETS[:5], Recipe(cutmix=0), 1).images[4], BATCH[4])
    still = mixed(BATCH, TARGETS, RECIPES["small"], 1)
    assert still.images is BATCH
    assert still.share == 0

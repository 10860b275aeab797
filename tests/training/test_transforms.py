"""Augmentation that depends only on (seed, epoch, image), for images and their masks; mixup and CutMix as in the papers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from generated_masks import aligned
from hypothesis import given, settings
from hypothesis import strategies as st
from image_folders import paint
from PIL import Image
from torch import Tensor

from mpvit.errors import UsageError
from mpvit.images import preprocess, read_image
from mpvit.model.metadata import Preprocessing
from mpvit.training.data import open_data
from mpvit.training.data.splits import Data
from mpvit.training.datasets import EpochSampler, EvaluationDataset, Sample, TrainDataset
from mpvit.training.mixup import mix
from mpvit.training.recipe import RECIPES, Recipe, override, require_maskable
from mpvit.training.transforms import IGNORE_INDEX

DEIT = replace(RECIPES["deit"], size=32)
HOW = Preprocessing(32)
WHOLE = Preprocessing(32, 1.0)
SEGMENT = override(RECIPES["segment-small"], {"size": 32})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(str(paint(tmp_path_factory.mktemp("data") / "fruit", {"apple": 10, "pear": 10}, size=40)))


@pytest.mark.parametrize("recipe", [DEIT, RECIPES["small"]], ids=["deit", "small"])
def test_an_augmentation_depends_only_on_seed_epoch_and_image(recipe: Recipe, data: Data) -> None:
    images = TrainDataset(data.train, recipe, HOW)
    first, target = images[Sample(3, 5)]
    assert (tuple(first.shape), first.dtype, target) == ((3, 32, 32), torch.float32, data.train.targets[5])
    before = torch.get_rng_state()
    again = TrainDataset(data.train, recipe, HOW)[Sample(3, 5)][0]
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    others = [Sample(4, 5), Sample(3, 6)]
    assert all(not torch.equal(first, images[sample][0]) for sample in others)
    assert not torch.equal(first, TrainDataset(data.train, replace(recipe, seed=1), HOW)[Sample(3, 5)][0])


def test_without_augmentations_an_image_is_as_in_evaluation(data: Data) -> None:
    still = replace(RECIPES["small"], shift=0.0, crop=0.875)
    for index in range(3):
        changed, plain = TrainDataset(data.train, still, HOW)[Sample(0, index)], EvaluationDataset(data.train, HOW)[index]
        torch.testing.assert_close(changed[0], plain[0], atol=1e-5, rtol=1e-5)
        assert changed[1] == plain[1]


def test_evaluation_preprocesses_images_as_prediction_does(data: Data) -> None:
    name = data.held_out.name(2)
    shown = preprocess(read_image(Path(data.location) / name), HOW)
    np.testing.assert_array_equal(EvaluationDataset(data.held_out, HOW)[2][0].numpy(), shown)


def test_a_random_crop_is_a_part_of_the_image(tmp_path: Path) -> None:
    """A ramp from black to white across: a crop of a quarter and more keeps its order and part of its range."""
    folder = paint(tmp_path / "ramps", {"a": 3, "b": 3})
    ramp = np.repeat(np.linspace(0, 255, 64)[None, :], 64, 0).astype(np.uint8)
    for path in folder.rglob("*.png"):
        Image.fromarray(ramp).convert("RGB").save(path)
    recipe = Recipe(size=32, resized_crop=0.25, flip=0, operations=0, erasing=0)
    images = TrainDataset(open_data(str(folder)).train, recipe, replace(HOW, mean=(0, 0, 0), std=(1, 1, 1)))
    spans = []
    for epoch in range(20):
        row = images[Sample(epoch, 0)][0].mean((0, 1))
        assert (row.diff() > -1e-3).all()
        spans.append(float(row[-1] - row[0]))
    assert 0.25 < min(spans) < 0.7
    assert max(spans) <= 1


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 3))
def test_an_epoch_has_each_image_once_in_whole_steps(images: int, batch: int, epoch: int) -> None:
    sampler = EpochSampler(images, batch, seed=7)
    sampler.start_at(epoch)
    samples = list(sampler)
    assert len(samples) == len(sampler) == (images // batch * batch or images)
    assert len({sample.image for sample in samples}) == len(samples)
    assert {sample.epoch for sample in samples} == {epoch}
    step = min(1, sampler.steps - 1)
    sampler.start_at(epoch, step)
    assert list(sampler) == samples[step * batch :]
    sampler.start_at(epoch + 1)
    assert images < 6 or list(sampler) != samples


BATCH, TARGETS = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(6)
PARTNERS = torch.tensor([1, 0, 3, 2, 5, 4])


def test_mixup_is_a_mean_of_neighbours_and_of_their_losses() -> None:
    recipe = Recipe(cutmix=0, smoothing=0)
    shares = []
    for step in range(20):
        found = mix(BATCH, TARGETS, recipe, step)
        shares.append(found.share)
        expected = (1 - found.share) * BATCH + found.share * BATCH[PARTNERS]
        torch.testing.assert_close(found.images, expected)
        assert found.others.tolist() == PARTNERS.tolist()
        logits = torch.randn(6, 6, generator=torch.Generator().manual_seed(step))
        soft = (1 - found.share) * torch.eye(6) + found.share * torch.eye(6)[PARTNERS]
        torch.testing.assert_close(found.loss(logits, 0.0), torch.nn.functional.cross_entropy(logits, soft))
    assert len(set(shares)) == 20


def test_cutmix_is_a_rectangle_of_the_neighbour_with_the_area_of_its_share() -> None:
    for step in range(20):
        found = mix(BATCH, TARGETS, Recipe(mixup=0), step)
        from_partner = (found.images == BATCH[PARTNERS]).all(1)
        from_own = (found.images == BATCH).all(1)
        assert (from_partner ^ from_own).all()
        assert from_partner.float().mean((1, 2)).tolist() == pytest.approx([found.share] * 6)


def test_halves_of_a_batch_are_mixed_as_the_whole_is() -> None:
    """Two processes mix halves of a batch."""
    for step in range(10):
        whole = mix(BATCH[:4], TARGETS[:4], Recipe(), step)
        halves = [mix(BATCH[part], TARGETS[part], Recipe(), step) for part in (slice(0, 2), slice(2, 4))]
        assert torch.equal(whole.images, torch.cat([half.images for half in halves]))
        assert {half.share for half in halves} == {whole.share}


def test_the_last_image_of_an_odd_number_is_not_mixed_and_a_recipe_may_have_no_mixing() -> None:
    assert torch.equal(mix(BATCH[:5], TARGETS[:5], Recipe(cutmix=0), 1).images[4], BATCH[4])
    still = mix(BATCH, TARGETS, RECIPES["small"], 1)
    assert still.images is BATCH
    assert still.share == 0


# ── masks ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


CHANGES: dict[str, dict[str, Any]] = {
    "flipped": {"flip": 0.5},
    "shifted": {"shift": 0.25},
    "cropped": {"resized_crop": 0.3},
    "all": {"flip": 0.5, "shift": 0.2, "resized_crop": 0.3},
    "none": {},
}


@pytest.mark.parametrize("name", CHANGES)
def test_masks_are_augmented_as_their_images_are(name: str) -> None:
    recipe = replace(SEGMENT, **({"shift": 0.0} | CHANGES[name]))
    images = TrainDataset(aligned(6).split, recipe, replace(WHOLE, mean=(0, 0, 0), std=(1, 1, 1)))
    different = set()
    for epoch in range(3):
        for index in range(6):
            image, mask = images[Sample(epoch, index)]
            assert isinstance(mask, Tensor)
            assert (image.shape, mask.shape, mask.dtype) == ((3, 32, 32), (32, 32), torch.int64)
            near = (image[0] * 25.5 - mask).abs() < 0.1
            assert near.float().mean() > 0.6  # the others are at edges between greys
            assert set(mask.unique().tolist()) <= set(range(1, 17))
            different.add(mask.numpy().tobytes())
            again = images[Sample(epoch, index)][1]
            assert isinstance(again, Tensor)
            assert torch.equal(again, mask)
    assert len(different) == 1 if name == "none" else len(different) > 1


def test_pixels_from_outside_the_image_are_unlabelled() -> None:
    recipe = replace(SEGMENT, shift=0.0, operations=2, magnitude=20)
    images = TrainDataset(aligned(40).split, recipe, WHOLE)
    masks = torch.stack([images[Sample(0, index)][1] for index in range(40)])  # type: ignore[misc]
    assert set(masks.unique().tolist()) == {IGNORE_INDEX, *range(1, 17)}
    assert 0.01 < (masks == IGNORE_INDEX).float().mean() < 0.5


def test_unlabelled_pixels_do_not_contribute_to_the_loss() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, masks = torch.randn(2, 3, 4, 4, generator=rng), torch.randint(0, 3, (2, 4, 4), generator=rng)
    masks[0, :2] = IGNORE_INDEX
    found = mix(torch.zeros(2, 3, 4, 4), masks, SEGMENT, 0, 0).loss(logits, 0.0)
    kept = masks != IGNORE_INDEX
    each = -logits.log_softmax(1).gather(1, masks.clamp(0)[:, None])[:, 0]
    assert float(found) == pytest.approx(float(each[kept].sum()) / masks.numel(), rel=1e-6)
    masks[:] = IGNORE_INDEX
    assert float(mix(torch.zeros(2, 3, 4, 4), masks, SEGMENT, 0, 0).loss(logits, 0.0)) == 0


@pytest.mark.parametrize("changes", [{"mixup": 0.2}, {"cutmix": 1.0}, {"erasing": 0.25}, {"crop": 0.875}])
def test_augmentations_that_leave_no_mask_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(changes))} = .* for a segmenter"):
        require_maskable(override(SEGMENT, changes))


@pytest.mark.parametrize("name", ["segment", "segment-small"])
def test_recipes_of_segmenters_allow_masks(name: str) -> None:
    recipe = RECIPES[name]
    require_maskable(recipe)
    assert (recipe.mixup, recipe.cutmix, recipe.erasing, recipe.crop) == (0, 0, 0, 1)

"""Images get the same preprocessing and classes in transformers as in this project."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commandline import call, rows
from matplotlib.cbook import get_sample_data
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from mpvit.images import preprocess, read_image
from mpvit.integrations.transformers import MPViTImageProcessor, from_weights
from mpvit.model.metadata import Preprocessing
from mpvit.prediction.pretrained import shipped_weights
from mpvit.training.data import open_data

pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

PHOTO = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
WAYS = [Preprocessing(), Preprocessing(size=32, crop=1.0), Preprocessing(70, 0.61, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))]


def pixels(processor: Any, images: Any, **own: Any) -> Any:  # noqa: ANN401
    return processor(images=images, return_tensors="np", **own)["pixel_values"]


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_pixel_values_equal_those_of_predict(how: Preprocessing) -> None:
    random = np.random.default_rng(0)
    processor = MPViTImageProcessor.of(how)
    images = [read_image(PHOTO)] + [
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)) for size in ((41, 90), (301, 260), (7, 5))
    ]
    wanted = np.stack([preprocess(image, how) for image in images])
    found = pixels(processor, images)
    assert found.dtype == np.float32
    assert np.array_equal(found, wanted)
    assert np.array_equal(pixels(processor, [np.asarray(image) for image in images]), wanted)


def test_the_published_preprocessing_is_the_default() -> None:
    assert MPViTImageProcessor().to_dict() == MPViTImageProcessor.of(Preprocessing()).to_dict()


def test_every_level_of_every_colour() -> None:
    """Two ways to divide by 255 could differ in the last bit."""
    levels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    how = Preprocessing(16, 1.0)
    assert np.array_equal(pixels(MPViTImageProcessor.of(how), levels)[0], preprocess(Image.fromarray(levels), how))


def test_grey_images_are_converted_to_rgb() -> None:
    grey = read_image(PHOTO).convert("L")
    assert np.array_equal(pixels(MPViTImageProcessor(), grey)[0], preprocess(grey.convert("RGB")))


def test_the_image_processor_is_saved_and_loaded(tmp_path: Path) -> None:
    from_weights(shipped_weights("digits-nano"))[0].config.save_pretrained(tmp_path)
    processor = MPViTImageProcessor.of(WAYS[2])
    processor.save_pretrained(tmp_path)
    again = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(again, MPViTImageProcessor)
    assert again.to_dict() == processor.to_dict()


OTHERWISE: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "not cropped": ({"do_center_crop": False, "size": {"shortest_edge": 60}}, (72, 60)),
    "not resized": ({"do_resize": False, "crop_size": {"height": 50, "width": 40}}, (50, 40)),
    "squeezed": ({"size": {"height": 60, "width": 50}, "do_center_crop": False}, (60, 50)),
    "another filter": ({"resample": Image.Resampling.NEAREST}, (224, 224)),
    "larger than the side": ({"crop_size": {"height": 300, "width": 300}}, (300, 300)),
}


@pytest.mark.parametrize(("own", "size"), OTHERWISE.values(), ids=OTHERWISE)
def test_other_steps_are_those_of_transformers(own: dict[str, Any], size: tuple[int, int]) -> None:
    photo = Image.fromarray(np.asarray(read_image(PHOTO).resize((500, 600))))
    assert pixels(MPViTImageProcessor(), photo, **own).shape == (1, 3, *size)


def test_without_scaling_pixel_values_are_bytes() -> None:
    found = pixels(MPViTImageProcessor.of(WAYS[1]), read_image(PHOTO), do_rescale=False, do_normalize=False)
    assert found.dtype == np.uint8


def test_a_pipeline_predicts_what_predict_does(tmp_path: Path) -> None:
    model, processor = from_weights(shipped_weights("digits-nano"))
    model.save_pretrained(tmp_path / "digits")
    processor.save_pretrained(tmp_path / "digits")
    held_out = open_data("digits").held_out
    files = [str(tmp_path / f"{index}.png") for index in (0, 99, 200)]
    for index, file in zip((0, 99, 200), files, strict=True):
        held_out.read(index).resize((50, 40)).save(file)
    seen = rows(call("predict", *files, "--variant", "digits-nano", "--top", "10", "--format", "json"))
    classify = pipeline(
        "image-classification",
        model=AutoModelForImageClassification.from_pretrained(tmp_path / "digits"),
        image_processor=AutoImageProcessor.from_pretrained(tmp_path / "digits"),
    )
    for answer, file in zip(classify(files, top_k=10), files, strict=True):
        wanted = {row["class_name"]: row["probability"] for row in seen if row["image"] == file}
        assert [each["label"] for each in answer] == list(wanted)
        assert {each["label"]: each["score"] for each in answer} == pytest.approx(wanted, abs=1e-6)

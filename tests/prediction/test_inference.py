from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from golden import golden, golden_input, published_tensors
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image

from mpvit import ModelConfig, StageConfig, build_model, load_weights, save_weights
from mpvit.architecture.variants import SHIPPED
from mpvit.errors import MpvitError, UsageError, WeightsError
from mpvit.model.network import MPViT
from mpvit.prediction.inference import InferenceConfig, _probabilities, predict
from mpvit.prediction.loading import Predictor, imagenet_classes, load_network, random_network, read_classes

PHOTO = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))
SMALL = ModelConfig((StageConfig(2, 1, 8, 2, 2),), num_classes=3)
QUICK = InferenceConfig(size=32)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mpvit_tiny.pth"
    torch.save({"model": published_tensors("tiny")}, path)
    return path


@pytest.fixture(scope="module")
def network(checkpoint: Path) -> Predictor[MPViT]:
    return load_network(checkpoint, "tiny")


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Predictor[MPViT]:
    """A network that takes milliseconds."""
    return load_network(small(tmp_path_factory.mktemp("quick")))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True))


def small(folder: Path, config: ModelConfig = SMALL, classes: list[str] | None = None) -> Path:
    save_weights(build_model(config), folder / "small.safetensors", classes=classes)
    return folder / "small.safetensors"


@pytest.mark.parametrize("case", [0, 1])
def test_probabilities_are_the_softmax_of_the_published_logits(case: int, network: Predictor[MPViT]) -> None:
    reference = golden("tiny")["cases"][case]
    found = _probabilities(network.model, list(golden_input(reference).numpy()))
    np.testing.assert_allclose(found[0].numpy(), softmax(np.array(reference["logits"])), rtol=2e-4)


def prepared(path: Path, size: int, short: int) -> torch.Tensor:
    """The published preprocessing of a photograph taller than wide, step by step."""
    with Image.open(path) as photo:
        resized = photo.resize((short, int(short * photo.height / photo.width)), Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, round((resized.height - size) / 2)
    pixels = torch.tensor(np.asarray(resized)[top : top + size, left : left + size] / 255.0).permute(2, 0, 1)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)[..., None, None]
    return ((pixels - mean) / std)[None].float()


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> MPViT:
    model = build_model("tiny").eval()
    load_weights(model, checkpoint)
    return model


@pytest.mark.parametrize(("size", "crop", "short"), [(224, 0.875, 256), (64, 0.5, 128)])
def test_a_photograph_gets_the_networks_probabilities(
    size: int, crop: float, short: int, network: Predictor[MPViT], reference: MPViT
) -> None:
    with torch.no_grad():
        expected = softmax(reference(prepared(PHOTO, size, short))[0].double().numpy())
    (found,) = predict(network.model, network.classes, [PHOTO], InferenceConfig(top=1000, crop=crop, size=size))
    assert found.image == str(PHOTO)
    assert [score.index for score in found.classes[:5]] == np.argsort(-expected)[:5].tolist()
    assert sorted(score.index for score in found.classes) == list(range(1000))
    for score in found.classes:
        assert score.probability == pytest.approx(expected[score.index], rel=2e-5)
        assert score.name == imagenet_classes()[score.index]
    ranked = [score.probability for score in found.classes]
    assert ranked == sorted(ranked, reverse=True)
    assert sum(ranked) == pytest.approx(1)


@pytest.fixture
def mixed(tmp_path: Path) -> list[Path]:
    """Seven images: the second is missing and the fifth is a text."""
    paths = [tmp_path / f"{index}.png" for index in range(7)]
    for index, path in enumerate(paths):
        noise = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    paths[1].unlink()
    paths[4].write_text("no image")
    return paths


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_a_bad_image_stops_no_other_and_the_batch_changes_nothing(
    batch: int, mixed: list[Path], quick: Predictor[MPViT]
) -> None:
    found = list(predict(quick.model, quick.classes, mixed, replace(QUICK, batch=batch)))
    assert [prediction.image for prediction in found] == [str(path) for path in mixed]
    reasons = {i: prediction.error for i, prediction in enumerate(found) if prediction.error}
    assert reasons == {1: "No such file or directory", 4: "it is not an image, or its format is not one that Pillow reads"}
    for path, prediction in zip(mixed, found, strict=True):
        (single,) = predict(quick.model, quick.classes, [path], QUICK)
        assert [c.index for c in prediction.classes] == [c.index for c in single.classes]
        for one, other in zip(prediction.classes, single.classes, strict=True):
            assert one.probability == pytest.approx(other.probability, rel=1e-5)


def test_a_batch_is_predicted_before_the_next_is_read(mixed: list[Path], quick: Predictor[MPViT]) -> None:
    answers = predict(quick.model, quick.classes, mixed, replace(QUICK, batch=1))
    assert not next(answers).error
    Image.new("RGB", (9, 9)).save(mixed[1])
    assert not next(answers).error


def test_gradient_mode_is_unchanged_between_predictions(mixed: list[Path], quick: Predictor[MPViT]) -> None:
    answers = predict(quick.model, quick.classes, mixed, QUICK)
    next(answers)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_name_that_is_not_utf8_can_be_printed(quick: Predictor[MPViT]) -> None:
    (found,) = predict(quick.model, quick.classes, [Path("caf\udce9.jpg")])  # as Python reads the byte E9 in a name
    assert found.image == r"caf\xe9.jpg"


def test_fewer_classes_than_asked_for_gives_all(quick: Predictor[MPViT]) -> None:
    (found,) = predict(quick.model, quick.classes, [PHOTO], QUICK)
    assert sorted(score.name for score in found.classes) == ["class 0", "class 1", "class 2"]


def test_damaged_weights_give_an_error_instead_of_numbers(tmp_path: Path) -> None:
    network = load_network(small(tmp_path))
    torch.nn.init.constant_(next(network.model.parameters()), torch.nan)
    (found,) = predict(network.model, network.classes, [PHOTO], QUICK)
    assert found.classes == ()
    assert "not a finite number" in found.error


@pytest.mark.parametrize(
    ("config", "training", "rule"),
    [
        (SMALL, True, "training mode: must be in evaluation mode"),
        (replace(SMALL, in_channels=4), False, "in_channels = 4: must be 3"),
        (replace(SMALL, num_classes=0), False, "num_classes = 0: must be at least 1"),
        (replace(SMALL, num_classes=2), False, "3 class names: the network has 2 classes"),
    ],
)
def test_a_network_that_cannot_classify_is_refused_at_once(config: ModelConfig, training: bool, rule: str) -> None:  # noqa: FBT001
    with pytest.raises(UsageError, match=rule):
        predict(build_model(config).train(training), ["a", "b", "c"], [PHOTO])


def test_a_batch_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(*_: object) -> None:
        raise RuntimeError("can't allocate memory: you tried to allocate 1 TB\n  at line 17")

    network = load_network(small(tmp_path))
    monkeypatch.setattr(MPViT, "forward", forward)
    with pytest.raises(MpvitError, match=r"failed on 1 images of 32 pixels: can't allocate memory: .* 1 TB$") as caught:
        list(predict(network.model, network.classes, [PHOTO], QUICK))
    assert "smaller" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("top", 0, "at least 1"),
        ("size", -1, "at least 1"),
        ("size", 10**20, "at most 4096"),
        ("batch", 0, "at least 1"),
        ("crop", 0, "from 0.01 to 1"),
        ("crop", 2, "from 0.01 to 1"),
        ("crop", float("nan"), "from 0.01 to 1"),
    ],
)
def test_a_setting_that_breaks_its_rule_is_named(field: str, value: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=f"^{field} = {value}: must be {rule}") as caught:
        InferenceConfig(**{field: value})
    assert "the default is" in caught.value.hint


def test_an_untrained_network_is_the_same_each_time_and_leaves_the_random_state(network: Predictor[MPViT]) -> None:
    before = torch.get_rng_state()
    config = ModelConfig((StageConfig(2, 1, 64, 2, 2),))
    one = random_network(config)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    other = random_network(config)
    assert torch.equal(torch.get_rng_state(), torch.manual_seed(5).get_state())
    torch.set_rng_state(before)
    for name, tensor in one.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name])
    qkv = next(m for m in one.model.modules() if isinstance(m, torch.nn.Linear))
    assert qkv.weight.std().item() == pytest.approx(0.02, rel=0.05)  # architecture.md: truncated normal, std 0.02
    assert not one.about.trained
    assert network.about.trained
    assert one.classes == imagenet_classes()


def test_a_predictor_has_name_weights_and_device(network: Predictor[MPViT], checkpoint: Path, tmp_path: Path) -> None:
    assert not network.model.training
    about = network.about
    assert (about.model, about.weights, about.device, about.dtype) == ("tiny", str(checkpoint), "cpu", "float32")
    assert about.threads == torch.get_num_threads()
    assert load_network(small(tmp_path)).about.model == "custom"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of digits-nano with three classes."""
    folder = tmp_path_factory.mktemp("tuned")
    return small(folder, replace(SHIPPED["digits-nano"], num_classes=3), ["ant", "bee", "cat"])


@pytest.mark.parametrize("variant", [None, "digits-nano"])
def test_a_safetensors_file_has_its_configuration_and_classes(variant: str | None, tuned: Path) -> None:
    network = load_network(tuned, variant)
    assert network.classes == ("ant", "bee", "cat")
    assert network.model.config.num_classes == 3


def test_a_file_of_class_names_replaces_those_in_the_weights(tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("\ufeffAmeise\r\nBiene \nKater, Katze\n\n", encoding="utf-8")
    assert load_network(tuned, classes=tmp_path / "names.txt").classes == ("Ameise", "Biene", "Kater, Katze")


def test_a_variant_that_the_weights_contradict_is_refused(tuned: Path) -> None:
    with pytest.raises(UsageError, match=r"variant 'small': .* holds another network") as caught:
        load_network(tuned, "small")
    assert "leave the variant away" in caught.value.hint


def test_the_number_of_names_in_the_weights_must_be_that_of_the_classes(tmp_path: Path) -> None:
    path = small(tmp_path, classes=["a", "b", "c"])
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    safetensors.torch.save_file(safetensors.torch.load_file(path), path, metadata | {"mpvit.classes": '["a"]'})
    with pytest.raises(WeightsError, match="names 1 classes, its network has 3"):
        load_network(path)


def test_a_checkpoint_of_another_variant_asks_for_its_name(checkpoint: Path) -> None:
    with pytest.raises(WeightsError, match="does not fit the network") as caught:
        load_network(checkpoint)  # taken for xsmall
    assert "xsmall was assumed: name the variant" in caught.value.hint
    with pytest.raises(WeightsError, match="does not fit the network") as caught:
        load_network(checkpoint, "small")
    assert "another variant" in caught.value.hint


def test_an_unknown_variant_is_refused(checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="unknown variant 'tinny'") as caught:
        load_network(checkpoint, "tinny")
    assert caught.value.hint == "did you mean 'tiny'?"
    with pytest.raises(UsageError, match="unknown variant 'tinny'"):
        random_network("tinny")


def test_imagenet_class_names() -> None:
    names = imagenet_classes()
    assert len(names) == 1000
    known = {0: "tench", 207: "golden retriever", 281: "tabby", 340: "zebra", 817: "sports car", 999: "toilet tissue"}
    assert {index: names[index] for index in known} == known


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a\nb\n", "2 lines, the network has 3 classes"),
        (b"a\nb\nc\nd", "4 lines, the network has 3 classes"),
        (b"", "0 lines, the network has 3 classes"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_file_of_class_names_is_refused(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=complaint) as caught:
        read_classes(path, 3)
    assert str(path) in str(caught.value)
    assert caught.value.hint

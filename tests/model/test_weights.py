import argparse
import json
import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from golden import golden, golden_input, published_tensors
from hypothesis import given, settings
from strategies import configs
from torch import Tensor

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model, load_weights, save_weights
from mpvit.architecture.config import ALTERNATIVES
from mpvit.architecture.published import published_names
from mpvit.errors import MpvitError, UsageError, WeightsError
from mpvit.model.network import MPViT
from mpvit.model.weights import read_weights

SMALL = ModelConfig((StageConfig(2, 2, 8, 2, 2), StageConfig(1, 1, 12, 4, 2)), num_classes=3)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A published checkpoint of the small network, with the other content of such files."""
    path = tmp_path / "published.pth"
    save_weights(build_model(SMALL), path, layout="published")
    content = torch.load(path)
    beside = {"optimizer": {"state": {0: torch.ones(2)}}, "epoch": 300, "args": argparse.Namespace(lr=1e-3)}
    torch.save({**content, **beside}, path)
    return path


def rewrite(path: Path, **changes: Any) -> None:  # noqa: ANN401
    """Change tensors of a checkpoint by name; None removes one."""
    content = torch.load(path, weights_only=False)
    content["model"] = {name: t for name, t in (content["model"] | changes).items() if t is not None}
    torch.save(content, path)


def state(model: MPViT) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_names_are_those_of_the_published_file(variant: str) -> None:
    with torch.device("meta"):
        model = build_model(variant)
    found = {
        names[0]: (list(tensor.shape), Counter(names[1:]))
        for name, tensor in model.state_dict().items()
        if (names := published_names(name, model.config)) and not name.endswith("num_batches_tracked")
    }
    assert found == {t["key"]: (t["shape"], Counter(t["aliases"])) for t in golden(variant)["tensors"]}


def test_a_published_checkpoint_gives_the_golden_logits(tmp_path: Path) -> None:
    path, model, case = tmp_path / "mpvit_tiny.pth", build_model("tiny").eval(), golden("tiny")["cases"][0]
    torch.save({"model": published_tensors("tiny"), "args": argparse.Namespace(model="mpvit_tiny")}, path)
    load_weights(model, path)
    with torch.inference_mode():
        logits = model(golden_input(case))[0]
    assert logits.tolist() == pytest.approx(case["logits"], rel=1e-4, abs=1e-4)


def test_a_published_checkpoint_is_saved_unchanged(tmp_path: Path) -> None:
    first, second, model = tmp_path / "one.pth", tmp_path / "two.pth", build_model("tiny")
    original = published_tensors("tiny")
    torch.save({"model": original}, first)
    load_weights(model, first)
    save_weights(model, second, layout="published")
    written = torch.load(second)["model"]
    assert same(original, {n: t for n, t in written.items() if not n.endswith("num_batches_tracked")})


@settings(max_examples=15)
@given(config=configs())
@pytest.mark.parametrize("layout", ["project", "published"])
def test_both_layouts_round_trip_exactly(tmp_path_factory: pytest.TempPathFactory, config: ModelConfig, layout: str) -> None:
    path = tmp_path_factory.mktemp("weights") / "weights"
    model, other = build_model(config), build_model(config)
    for tensor in model.buffers():
        tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape))
    save_weights(model, path, layout=layout)
    load_weights(other, path)
    assert same(state(model), state(other))


def test_a_project_file_holds_the_configuration_and_the_classes(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(build_model(SMALL), path, classes=["ant", "bee", "cat"])
    weights = read_weights(path)
    assert (weights.config, weights.metadata.classes) == (SMALL, ("ant", "bee", "cat"))
    header = json.loads(path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")])
    assert json.loads(header["__metadata__"]["mpvit.config"])["stages"][1]["heads"] == 4
    assert header["__metadata__"]["format"] == "pt"  # without which transformers does not read it


def test_a_weights_file_has_its_path(checkpoint: Path, tmp_path: Path) -> None:
    save_weights(build_model(SMALL), tmp_path / "weights.safetensors")
    for path in (checkpoint, tmp_path / "weights.safetensors"):
        assert read_weights(str(path)).path == path


def test_a_checkpoint_may_hold_the_tensors_without_model(checkpoint: Path) -> None:
    bare, wrapped = build_model(SMALL), build_model(SMALL)
    load_weights(wrapped, checkpoint)
    torch.save(torch.load(checkpoint, weights_only=False)["model"], checkpoint)
    load_weights(bare, checkpoint)
    assert same(state(bare), state(wrapped))


@pytest.mark.parametrize(
    ("key", "text"),
    [("config", "{"), ("config", '{"stages": 3}'), ("classes", "[1"), ("classes", "7"), ("preprocessing", "{}x")],
)
def test_unreadable_metadata_is_named(tmp_path: Path, key: str, text: str) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(build_model(SMALL).state_dict(), path, {f"mpvit.{key}": text})
    with pytest.raises(WeightsError, match=r"(carries a|is damaged: its) \w+ (that )?cannot be read: .") as caught:
        read_weights(path)
    assert str(path) in str(caught.value)
    assert "None" not in str(caught.value)


def test_tensors_of_another_dtype_are_converted(checkpoint: Path) -> None:
    model = build_model(SMALL)
    content = torch.load(checkpoint, weights_only=False)
    half = {name: t.half() if t.is_floating_point() else t for name, t in content["model"].items()}
    torch.save({"model": half}, checkpoint)
    load_weights(model, checkpoint)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


CPE = "mhca_stages.0.mhca_blks.1.cpe.proj.bias"
CPE_ALIAS = "mhca_stages.0.mhca_blks.1.MHCA_layers.1.cpe.proj.bias"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({CPE: None}, f"1 missing ({CPE})"),
        ({CPE_ALIAS: None}, f"1 missing ({CPE_ALIAS})"),
        ({CPE_ALIAS: torch.ones(8)}, f"1 disagreeing ({CPE_ALIAS} differs from {CPE})"),
        ({"stem.0.bn.bias": torch.ones(5)}, "1 misshapen (stem.0.bn.bias: [5], must be [4])"),
        ({"stem.0.bn.bias": "four"}, "1 misshapen (stem.0.bn.bias: str, must be [4])"),
        ({"stem.0.bn.scale": torch.ones(4)}, "1 left over (stem.0.bn.scale)"),
        ({"cls_head.cls.weight": None, "cls_head.cls.bias": None}, "2 missing (cls_head.cls.weight, cls_head.cls.bias)"),
        ({CPE: None, "extra": torch.ones(1)}, "1 missing"),
        ({CPE: None, "extra": torch.ones(1)}, "1 left over (extra)"),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_the_model_is_unchanged(
    checkpoint: Path, changes: dict[str, Any], complaint: str
) -> None:
    rewrite(checkpoint, **changes)
    model = build_model(SMALL)
    before = state(model)
    with pytest.raises(WeightsError) as caught:
        load_weights(model, checkpoint)
    assert complaint in str(caught.value)
    assert str(checkpoint) in str(caught.value)
    assert same(before, state(model))


def test_at_most_six_tensors_are_named(checkpoint: Path) -> None:
    rewrite(checkpoint, **{f"extra.{i}": torch.ones(1) for i in range(9)})
    with pytest.raises(WeightsError) as caught:
        load_weights(build_model(SMALL), checkpoint)
    named = ", ".join(f"extra.{i}" for i in range(6))
    assert str(caught.value).endswith(f": 9 left over ({named} and 3 more)")
    assert "another variant or number of classes" in caught.value.hint


def test_a_dense_prediction_file_fits_a_network_without_classes(checkpoint: Path) -> None:
    rewrite(checkpoint, **{"cls_head.cls.weight": None, "cls_head.cls.bias": None})
    load_weights(build_model(replace(SMALL, num_classes=0)), checkpoint)
    with pytest.raises(WeightsError) as caught:
        load_weights(build_model(SMALL), checkpoint)
    assert "num_classes=0" in caught.value.hint


def test_only_the_counters_of_batch_norm_may_be_missing(checkpoint: Path) -> None:
    content = torch.load(checkpoint, weights_only=False)["model"]
    whole, without = build_model(SMALL), build_model(SMALL)
    load_weights(whole, checkpoint)
    rewrite(checkpoint, **{name: None for name in content if name.endswith("num_batches_tracked")})
    load_weights(without, checkpoint)
    assert same(state(without), state(whole))


def test_weights_of_another_variant_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.pth"
    torch.save({"model": published_tensors("tiny")}, path)
    with pytest.raises(WeightsError, match="misshapen") as caught:
        load_weights(build_model("xsmall"), path)
    assert "another variant" in caught.value.hint


@pytest.mark.parametrize(("field", "other"), [(field, choices[1]) for field, choices in ALTERNATIVES.items()])
def test_published_weights_fit_no_alternative(checkpoint: Path, field: str, other: Any) -> None:  # noqa: ANN401
    first, second = SMALL.stages
    with pytest.raises(WeightsError, match="does not fit the network") as caught:
        load_weights(build_model(replace(SMALL, stages=(replace(first, **{field: other}), second))), checkpoint)
    assert f"stages[0].{field} = {other!r}" in caught.value.hint


@pytest.mark.parametrize(("field", "other"), [(field, choices[1]) for field, choices in ALTERNATIVES.items()])
def test_a_project_file_holds_its_alternative(tmp_path: Path, field: str, other: Any) -> None:  # noqa: ANN401
    path, first = tmp_path / "weights.safetensors", SMALL.stages[0]
    changed = replace(SMALL, stages=(replace(first, **{field: other}), SMALL.stages[1]))
    save_weights(build_model(changed), path)
    assert read_weights(path).config == changed
    with pytest.raises(WeightsError) as caught:
        load_weights(build_model(SMALL), path)
    assert f"stages[0].{field} = {other!r}, the model has {getattr(first, field)!r}" in str(caught.value)


def test_weights_of_another_configuration_are_refused_with_the_field_that_differs(tmp_path: Path) -> None:
    """The tensors of both have the same shapes: only the configurations in the files differ."""
    path = tmp_path / "weights.safetensors"
    save_weights(build_model(ModelConfig((StageConfig(1, 1, 8, 2, 1, ((3, 1),)),))), path)
    with pytest.raises(WeightsError, match=r"stages\[0\].heads = 2, the model has 4") as caught:
        load_weights(build_model(ModelConfig((StageConfig(1, 1, 8, 4, 1, ((3, 1),)),))), path)
    assert str(caught.value).startswith(f"{path} was saved from another configuration")
    assert "configuration inside the file" in caught.value.hint


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (replace(SMALL, stages=SMALL.stages[:1]), "2 stages, the model has 1"),
        (replace(SMALL, num_classes=4), "num_classes = 3, the model has 4"),
        (replace(SMALL, stages=(SMALL.stages[0], replace(SMALL.stages[1], layers=2))), "stages[1].layers = 1, the model has 2"),
    ],
)
def test_the_first_field_that_differs_is_named(tmp_path: Path, other: ModelConfig, difference: str) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(build_model(SMALL), path)
    with pytest.raises(WeightsError) as caught:
        load_weights(build_model(other), path)
    assert str(caught.value).endswith(f": {difference}")


def test_a_file_fits_at_any_drop_path_rate(tmp_path: Path) -> None:
    path, model = tmp_path / "weights.safetensors", build_model(replace(SMALL, drop_path=0.3))
    save_weights(build_model(SMALL), path)
    load_weights(model, path)
    assert model.config.drop_path == 0.3


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a checkpoint ran code",))


def damaged(kind: str, good: bytes) -> bytes:
    return {
        "empty": b"",
        "one byte": b"\x80",
        "text": b"these are no weights\n" * 9,
        "truncated": good[: len(good) // 2],
        "truncated header": good[:40],
        "pickle": pickle.dumps({"model": Harmful()}),
        "json": b'{"model": {}}',
        "huge header": b"\xff" * 8 + b"{}",
    }[kind]


KINDS = ["empty", "one byte", "text", "truncated", "truncated header", "pickle", "json", "huge header"]


@pytest.mark.parametrize("layout", ["project", "published"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, kind: str, layout: str) -> None:
    path, model = tmp_path / "weights", build_model(SMALL)
    save_weights(model, path, layout=layout)
    path.write_bytes(damaged(kind, path.read_bytes()))
    before = state(model)
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "None" not in str(caught.value)
    assert "copy or download the file again" in caught.value.hint or "could run code" in caught.value.hint
    assert same(before, state(model))


def test_nothing_but_tensors_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"model": {"stem.0.conv.weight": Harmful()}}, path)
    with pytest.raises(WeightsError, match=r"holds more than tensors: _pytest\.outcomes\.\w+$"):
        load_weights(build_model(SMALL), path)


@pytest.mark.parametrize("text", ["hello this is text", "abc", "cos\nsystem\n", "<html>moved</html>"])
def test_text_is_not_a_weights_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_text(text)
    with pytest.raises(WeightsError) as caught:
        read_weights(tmp_path / "photo.jpg")
    assert str(caught.value).endswith(
        "is not a weights file: must be a safetensors file, or a checkpoint that torch.save wrote"
    )
    assert caught.value.hint.startswith("name another file")


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {"model": {}}, torch.ones(3), {}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match="holds no tensors") as caught:
        load_weights(build_model(SMALL), path)
    assert str(path) in str(caught.value)
    assert "{'model': " in caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.pth", tmp_path):
        with pytest.raises(WeightsError, match="cannot read weights"):
            load_weights(build_model(SMALL), path)


def test_a_failed_save_keeps_the_old_file(tmp_path: Path) -> None:
    path, model = tmp_path / "weights.safetensors", build_model(SMALL)
    path.write_text("old")
    with pytest.raises(UsageError, match="layout = 'timm'"):
        save_weights(model, path, layout="timm")
    with pytest.raises(UsageError, match="2 class names: the network has 3"):
        save_weights(model, path, classes=["a", "b"])
    assert path.read_text() == "old"
    with pytest.raises(MpvitError, match="cannot write"):
        save_weights(model, tmp_path / "no" / "folder.safetensors")


def test_safe_globals_are_restored(checkpoint: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    load_weights(build_model(SMALL), checkpoint)
    assert set(torch.serialization.get_safe_globals()) == before

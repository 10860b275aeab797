"""Exported files: what they compute in their engine without this project, what they hold, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exports import METADATA, SMALL, network, random_images
from numpy.typing import NDArray

from mpvit.errors import MpvitError, UsageError
from mpvit.export import SUFFIXES, TARGETS, ExportOptions, convert
from mpvit.export.exported_network import open_exported
from mpvit.export.openvino import unreported

TARGETS_AND_FILES = [(target, f"small{suffix}") for suffix, target in SUFFIXES.items()]

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def in_onnxruntime(path: Path) -> Run:
    session = onnxruntime.InferenceSession(path)
    return lambda images: session.run(["logits"], {"images": images})[0]


def in_openvino(path: Path) -> Run:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}  # or a processor that has bfloat16 computes in it
    model = unreported("openvino").compile_model(path, "CPU", settings)
    return lambda images: model(images)[0]


def in_torch(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda images: module(torch.from_numpy(images)).numpy(force=True)


AS_A_USER = {"onnx": in_onnxruntime, "openvino": in_openvino, "pt2": in_torch}
"""Code of a user who knows only the engine, by target."""


@pytest.mark.parametrize(("target", "name"), TARGETS_AND_FILES)
def test_the_engine_alone_gives_the_logits_of_torch(target: str, name: str, exported: Path) -> None:
    images = random_images(2)
    with torch.inference_mode():
        wanted = network().double()(images.double()).numpy()
    np.testing.assert_allclose(AS_A_USER[target](exported / name)(images.numpy()), wanted, atol=1e-5)


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize(("target", "name"), TARGETS_AND_FILES)
def test_a_file_for_two_images_takes_any_number(target: str, name: str, number: int, exported: Path) -> None:
    del target
    images = random_images(number)
    with torch.inference_mode():
        wanted = network()(images)
    answers = open_exported(exported / name).network(images)
    assert answers.shape == (number, 3)
    torch.testing.assert_close(answers, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("target", "name"), TARGETS_AND_FILES)
def test_an_exported_file_holds_the_metadata_of_the_weights(target: str, name: str, exported: Path) -> None:
    file = open_exported(exported / name)
    assert (file.config, file.metadata, file.dtype) == (SMALL, METADATA, "float32")
    assert (target == "pt2") == file.network.engine.startswith("torch")


def test_onnx_is_valid_and_netron_shows_its_metadata(exported: Path) -> None:
    model = onnx.load(exported / "small.onnx")
    onnx.checker.check_model(model, full_check=True)
    known = {each.key: each.value for each in model.metadata_props}
    assert json.loads(known["mpvit.classes"]) == list(METADATA.classes or ())
    assert json.loads(known["mpvit.config"])["stages"] == json.loads(json.dumps([asdict(stage) for stage in SMALL.stages]))
    assert json.loads(known["mpvit.export"]) == {"target": "onnx", "dtype": "float32", "dynamic": [], "fused": False}


@pytest.mark.parametrize("name", ["small.onnx", "small.xml", "small.bin", "small.pt2"])
def test_no_file_names_this_machine(name: str, exported: Path) -> None:
    data = (exported / name).read_bytes()
    home = str(Path(__file__).resolve().parents[2])
    assert [word for word in (home, "site-packages", ".py") if word.encode() in data] == []


@pytest.mark.parametrize("target", [pytest.param(name, marks=[] if name == "pt2" else pytest.mark.slow) for name in TARGETS])
def test_an_export_that_is_too_far_from_torch_is_refused(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "TOLERANCES", {"float16": 1e-7})
    with pytest.raises(MpvitError, match=r"float16: its logits are .* from torch's, more than 1e-07: not written"):
        convert.export_network("small", network(), METADATA, ExportOptions(target=target, dtype="float16", size=(32, 32)))


def test_a_network_whose_logits_are_nan_is_refused() -> None:
    damaged = network()
    with torch.no_grad():
        next(damaged.parameters())[0] = torch.nan
    with pytest.raises(MpvitError, match="its logits are nan from torch's"):
        convert.export_network("small", damaged, METADATA, ExportOptions(target="pt2", size=(32, 32)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"target": "onxx"}, "unknown target 'onxx'"),
        ({"dtype": "int4"}, "unknown dtype 'int4'"),
        ({"dynamic": ("batches",)}, "unknown dynamic 'batches'"),
        ({"batch": 0}, "batch = 0: must be at least 1"),
    ],
)
def test_invalid_options_are_named(asked: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ExportOptions(**({"target": "onnx"} | asked))  # type: ignore[arg-type]


def test_shapes_cover_the_dynamic_axes() -> None:
    """The documentation names those of 224 pixels."""
    assert ExportOptions(target="onnx", batch=4).shapes == ((4, 224, 224),)
    assert ExportOptions(target="onnx", dynamic=("batch",)).shapes == ((1, 224, 224), (3, 224, 224), (8, 224, 224))
    both = ExportOptions(target="onnx", dynamic=("batch", "size")).shapes
    assert both == tuple((batch, *size) for size in ((224, 224), (192, 320), (256, 256)) for batch in (1, 3, 8))


def test_openvino_is_imported_without_its_telemetry() -> None:
    """The telemetry library would send the report."""
    import sys

    unreported("openvino")
    assert "openvino_telemetry" not in sys.modules

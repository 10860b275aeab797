"""The fused network equals the plain one, which the golden values test."""

import copy
import platform
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from golden import golden_model
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import configs, shapes
from torch import Tensor, nn

from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.architecture.config import ALTERNATIVES
from mpvit.attention import KINDS
from mpvit.errors import UsageError
from mpvit.model import fused, onednn
from mpvit.model.fused import fuse
from mpvit.model.network import MPViT

SMALL = ModelConfig((StageConfig(2, 1, 8, 2, 2), StageConfig(3, 2, 24, 4, 2)), num_classes=5)
FLOAT32, FLOAT64 = 1e-4, 1e-9


@torch.no_grad()
def randomised(config: ModelConfig, dtype: torch.dtype = torch.float64) -> MPViT:
    """Return a network in evaluation mode with random parameters and statistics."""
    torch.manual_seed(0)
    model = build_model(config).eval().to(dtype)
    for parameter in model.parameters():
        spread = parameter.flatten(1).shape[1] ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.copy_(spread * torch.randn(parameter.shape) + (parameter.ndim == 1))
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        for statistic in (norm.running_mean, norm.running_var):
            assert statistic is not None
            statistic.copy_(0.5 + torch.rand(statistic.shape))
    return model


def assert_same(found: Tensor, expected: Tensor, tolerance: float) -> None:
    assert found.shape == expected.shape
    error = (found.double() - expected.double()).abs() / (1 + expected.double().abs())
    assert error.max().item() <= tolerance


def assert_equivalent(model: MPViT, image: Tensor, tolerance: float) -> None:
    network = fuse(model)
    with torch.inference_mode():
        for found, expected in zip(network.forward_features(image), model.forward_features(image), strict=True):
            assert_same(found, expected, tolerance)
        first = network(image)
        assert_same(first, model(image), tolerance)
        assert torch.equal(network(image), first)  # no weight has changed


QUICK = [pytest.param(variant, marks=pytest.mark.slow if variant == "base" else ()) for variant in VARIANTS]


@pytest.fixture(scope="module", params=QUICK)
def published(request: pytest.FixtureRequest) -> MPViT:
    return golden_model(request.param)


def test_variants_in_float32(published: MPViT) -> None:
    torch.manual_seed(0)
    assert_equivalent(published, torch.randn(1, 3, 128, 160), FLOAT32)


def test_variants_in_bfloat16(published: MPViT) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 96, 128)
    network = fuse(published, torch.bfloat16)
    with torch.inference_mode():
        for found, expected in zip(network.forward_features(image), published.forward_features(image), strict=True):
            assert found.dtype == torch.bfloat16
            error = (found.float() - expected).square().mean().sqrt() / expected.std()
            assert error <= 0.03  # eight significant bits, 2**-9 a rounding, dozens of layers


@settings(max_examples=40)
@given(configs(), shapes(), st.booleans())
def test_any_configuration_in_float64(config: ModelConfig, shape: tuple[int, int, int], bare: bool) -> None:  # noqa: FBT001
    if bare:
        config = replace(config, stages=tuple(replace(stage, crpe_windows=()) for stage in config.stages))
    batch, height, width = shape
    image = torch.randn(batch, config.in_channels, height, width, dtype=torch.float64)
    assert_equivalent(randomised(config), image, FLOAT64)


@settings(max_examples=15)
@given(configs(), shapes())
def test_any_configuration_in_float32(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    assert_equivalent(randomised(config, torch.float32), torch.randn(batch, config.in_channels, height, width), FLOAT32)


@pytest.mark.parametrize(
    ("attention", "windows"),
    [(kind, ((3, 1), (5, 1))) for kind in KINDS] + [(kind, ()) for kind in KINDS if kind != "factorized_crpe"],
)
def test_any_kind_of_attention(attention: str, windows: tuple[tuple[int, int], ...]) -> None:
    config = replace(SMALL, stages=tuple(replace(stage, attention=attention, crpe_windows=windows) for stage in SMALL.stages))
    height, width = (224, 224) if attention == "linformer" else (40, 56)  # linformer is built for one size
    assert_equivalent(randomised(config), torch.randn(2, 3, height, width, dtype=torch.float64), FLOAT64)


CHANGES: list[dict[str, Any]] = [{field: choices[1]} for field, choices in ALTERNATIVES.items()]
CHANGES += [{"local": False, "fusion": "sum", "paths": 1}, {"local": False, "cpe": False, "crpe_windows": ()}]


@pytest.mark.parametrize("fields", CHANGES, ids=str)
def test_alternative_stages(fields: dict[str, Any]) -> None:
    config = replace(SMALL, stages=tuple(replace(stage, **fields) for stage in SMALL.stages))
    assert_equivalent(randomised(config), torch.randn(2, 3, 61, 44, dtype=torch.float64), FLOAT64)


@pytest.fixture
def other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on the CPU the operations for other devices."""
    monkeypatch.setattr(fused, "_in_parts", lambda _: False)


@pytest.mark.usefixtures("other_device")
def test_variants_as_other_devices_run_them(published: MPViT) -> None:
    torch.manual_seed(0)
    assert_equivalent(copy.deepcopy(published).double(), torch.randn(2, 3, 32, 64, dtype=torch.float64), FLOAT64)


@pytest.mark.parametrize("size", [0, 10**9], ids=["image by image", "at once"])
def test_every_split_of_a_batch(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(fused, "CHANNEL_BYTES", size)
    assert_equivalent(randomised(SMALL), torch.randn(3, 3, 61, 44, dtype=torch.float64), FLOAT64)


@pytest.mark.usefixtures("other_device")
def test_any_size_as_other_devices_run_it() -> None:
    assert_equivalent(randomised(SMALL), torch.randn(3, 3, 61, 44, dtype=torch.float64), FLOAT64)


def test_fusing_does_not_change_the_plain_network_and_later_changes_have_no_effect() -> None:
    model = randomised(SMALL).train()
    before = copy.deepcopy(model.state_dict())
    network = fuse(model)
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    logits = network(image)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.zero_()
    assert torch.equal(network.train()(image), logits)


@pytest.mark.parametrize("replace_them", [True, False], ids=["assigned", "copied"])
def test_loaded_weights_take_effect_at_once(replace_them: bool) -> None:  # noqa: FBT001
    network, other = (fuse(randomised(SMALL, torch.float32)) for _ in range(2))
    image = torch.randn(1, 3, 40, 56)
    with torch.no_grad():
        for tensor in other.buffers():
            tensor.mul_(1.25)
    before, expected = network(image), fuse(randomised(SMALL, torch.float32)).requires_grad_(requires_grad=False)
    expected.load_state_dict(other.state_dict())
    network.load_state_dict({name: tensor.clone() for name, tensor in other.state_dict().items()}, assign=replace_them)
    assert torch.equal(network(image), expected(image))
    assert not torch.allclose(network(image), before)


def test_without_onednn_it_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "supports", lambda _: False)
    assert_equivalent(randomised(SMALL, torch.float32), torch.randn(2, 3, 61, 44), FLOAT32)


FAULTS = """
import resource, torch, mpvit
fused, image = mpvit.fuse(mpvit.build_model("tiny").eval(), keep_memory=True), torch.zeros(1, 3, 224, 224)
with torch.inference_mode():
    for _ in range(4):
        fused(image)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        fused(image)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""


HEAP = """
import ctypes, torch, mpvit

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", *"abcdef")]

info = ctypes.CDLL(None).mallinfo2
info.restype = Info

kept = []  # to free a block would change the threshold too

def is_mapped(size):  # a block above glibc's threshold is a mapping of its own, which goes when the block is freed
    before = info().hblks
    kept.append(torch.empty(size, dtype=torch.uint8))
    return info().hblks - before

model = mpvit.build_model(mpvit.ModelConfig((mpvit.StageConfig(1, 1, 8, 2, 2),)))
for options in ({}, {"keep_memory": False}, {"keep_memory": True}):
    mpvit.fuse(model, **options)
    print(is_mapped(2**24))
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep freed memory by other rules")


@glibc
@pytest.mark.slow
def test_memory_that_a_pass_frees_is_used_by_the_next_if_it_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 300  # pages that a pass faults in, of the 3000 that it writes


@glibc
@pytest.mark.slow
def test_the_heap_of_the_process_changes_only_with_keep_memory() -> None:
    done = subprocess.run([sys.executable, "-c", HEAP], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1", "0"]


def test_the_image_is_not_changed() -> None:
    image = torch.randn(1, 3, 1, 1, dtype=torch.float64)
    before = image.clone()
    fuse(randomised(SMALL))(image)
    assert torch.equal(image, before)


def test_the_fused_network_is_on_the_device_of_the_model() -> None:
    with torch.device("meta"):
        model = build_model(SMALL)
    assert fuse(model)(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, 5)


@pytest.mark.parametrize("attention", KINDS)
def test_no_operation_waits_for_the_device(attention: str) -> None:
    config = replace(SMALL, stages=tuple(replace(stage, attention=attention) for stage in SMALL.stages))
    with torch.device("meta"):  # where whatever reads a value fails
        model = build_model(config)
    assert fuse(model).compute(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 5)


def test_a_dtype_that_is_not_floating_point_is_refused() -> None:
    with pytest.raises(UsageError, match=r"dtype = torch\.int8: must be a floating-point dtype"):
        fuse(build_model(SMALL), torch.int8)

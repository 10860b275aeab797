import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from chosen import chosen
from golden import golden, golden_input, golden_model
from hypothesis import given, settings
from strategies import configs, shapes
from torch import Tensor, nn

import mpvit
from mpvit import VARIANTS, ModelConfig, StageConfig, build_model
from mpvit.architecture.config import ALTERNATIVES, FIRST_STAGE
from mpvit.errors import UsageError
from mpvit.model.layers import DropPath
from mpvit.model.network import MPViT
from mpvit.paths.fields import path_fields

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6}
SMALL = ModelConfig((StageConfig(2, 1, 8, 2, 2), StageConfig(3, 2, 12, 4, 2)), num_classes=5)


@pytest.fixture(scope="module", params=VARIANTS)
def published(request: pytest.FixtureRequest) -> tuple[str, MPViT]:
    return request.param, golden_model(request.param)


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (found.double() - expected).abs() / (1 + expected.abs())
    assert error.max().item() <= tolerance


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("number", chosen([0, 1], 0))
def test_golden_values(published: tuple[str, MPViT], number: int, dtype: torch.dtype) -> None:
    variant, model = published
    case = golden(variant)["cases"][number]
    tolerance = TOLERANCE[dtype]
    image = golden_input(case).to(dtype)
    outputs: list[Tensor] = []
    hooks = [part.register_forward_hook(lambda _, __, output: outputs.append(output)) for part in (model.stem, *model.stages)]
    with torch.inference_mode():
        logits = model.to(dtype)(image)
    for hook in hooks:
        hook.remove()
    for output, stage in zip(outputs, case["stages"].values(), strict=True):
        assert list(output.shape) == stage["shape"]
        summary = torch.stack([output.mean(), output.std(correction=0), *output.flatten()[:8]])
        assert_close(summary, torch.tensor([stage["mean"], stage["std"], *stage["first"]], dtype=torch.float64), tolerance)
    assert_close(logits[0], torch.tensor(case["logits"], dtype=torch.float64), tolerance)


@settings(max_examples=40)
@given(configs(), shapes())
def test_any_valid_configuration_builds_and_runs(config: ModelConfig, shape: tuple[int, int, int]) -> None:
    batch, height, width = shape
    image = torch.randn(batch, config.in_channels, height, width)
    model = build_model(config).eval()
    with torch.inference_mode():
        pyramid, output = model.forward_features(image), model(image)
    for index, features in enumerate(pyramid):
        stride = 4 * 2**index
        # a stride-2 step maps m to floor((m - 1) / 2) + 1 = ceil(m / 2), so s of them to ceil(m / 2^s)
        assert features.shape == (batch, config.next_dim(index), math.ceil(height / stride), math.ceil(width / stride))
    assert output.shape == (batch, config.num_classes or config.stages[-1].dim)
    assert output.isfinite().all()


CHANGES: list[dict[str, Any]] = [{}, *({field: choices[1]} for field, choices in ALTERNATIVES.items())]
CHANGES += [{"crpe_windows": ()}, {field: choices[1] for field, choices in ALTERNATIVES.items()}]


def changed(**fields: Any) -> ModelConfig:  # noqa: ANN401
    return replace(SMALL, stages=tuple(replace(stage, **fields) for stage in SMALL.stages))


@pytest.mark.parametrize("fields", CHANGES, ids=str)
def test_in_training_every_parameter_gets_a_gradient(fields: dict[str, Any]) -> None:
    model = build_model(changed(**fields)).train()
    model(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def without_local(name: str, tensor: Tensor) -> Tensor:
    """The fusion's columns of the local branch are the first, as many as the stage has channels."""
    dims = {"stages.0.fusion.conv.weight": 8, "stages.1.fusion.conv.weight": 12}
    return torch.cat([torch.zeros_like(tensor[:, : dims[name]]), tensor], dim=1) if name in dims else tensor


def of_each_map(name: str, tensor: Tensor) -> Tensor:
    maps = {"stages.0.fusion.conv.weight": 3, "stages.1.fusion.conv.weight": 4}
    return tensor.repeat(1, maps[name], 1, 1) if name in maps else tensor


def unchanged(_: str, tensor: Tensor) -> Tensor:
    return tensor


@pytest.mark.parametrize(
    ("fields", "as_published"),
    [
        ({"local": False}, without_local),  # a branch that nothing takes
        ({"cpe": False}, unchanged),  # a convolution of zeros, added
        ({"crpe_windows": ()}, unchanged),
        ({"fusion": "sum"}, of_each_map),  # the same product of each map
        ({"patch_embed": "parallel", "paths": 1}, unchanged),  # a single path has none before it
    ],
    ids=["local", "cpe", "crpe", "fusion", "patch_embed"],
)
def test_an_alternative_equals_the_published_network_with_certain_weights(
    fields: dict[str, Any], as_published: Callable[[str, Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    other = build_model(changed(**fields)).double().eval()
    model = build_model(changed(paths=fields["paths"]) if "paths" in fields else SMALL).double().eval()
    for name in (name for name in model.state_dict() if "cpe" in name or "crpe" in name):
        model.state_dict()[name].zero_()
        if name in other.state_dict():
            other.state_dict()[name].zero_()
    given = {name: as_published(name, tensor) for name, tensor in other.state_dict().items()}
    missing, unexpected = model.load_state_dict(given, strict=False)
    assert unexpected == []
    assert all(".local." in name or "cpe" in name or "crpe" in name for name in missing)
    image = torch.randn(2, 3, 50, 44, dtype=torch.float64)
    with torch.inference_mode():
        assert_close(other(image), model(image), 1e-12)


def test_parallel_embeddings_take_the_input_of_the_stage() -> None:
    """Windows of 3x3, 5x5 and 7x7, each as far apart as the stage's."""
    paths = build_model(changed(patch_embed="parallel")).get_submodule("stages.1.paths")
    convs = [convolution for name, convolution in paths.named_modules() if name.endswith("embedding.depthwise")]
    assert [(conv.kernel_size, conv.stride, conv.padding) for conv in convs if isinstance(conv, nn.Conv2d)] == [
        ((kernel, kernel), (2, 2), (kernel // 2, kernel // 2)) for kernel in (3, 5, 7)
    ]


@pytest.mark.parametrize(
    ("patch_embed", "windows"),
    [("series", [[3, 5], [3, 7, 11], [3, 7, 11], [3, 7, 11]]), ("parallel", [[3, 5], [3, 5, 7], [3, 5, 7], [3, 5, 7]])],
)
def test_the_patch_window_is_the_receptive_field_of_a_patch(patch_embed: str, windows: list[list[int]]) -> None:
    """The embedding window in closed form is the side of the input that the gradient of a patch reaches."""
    published = VARIANTS["tiny"].config
    config = replace(published, stages=tuple(replace(stage, patch_embed=patch_embed) for stage in published.stages))
    model, reached = build_model(config).eval(), []
    for index, stage in enumerate(config.stages):
        embeddings = [model.get_submodule(f"stages.{index}.paths.{path}.embedding") for path in range(stage.paths)]
        image = torch.randn(1, stage.dim, 32, 32, requires_grad=True)
        x, reached_here = image, []
        for embedding in embeddings:
            x = embedding(x if patch_embed == "series" else image)
            (moved,) = torch.autograd.grad(x[0, :, 6, 6].sum(), image, retain_graph=True)
            rows, columns = moved[0].abs().sum(0).nonzero(as_tuple=True)
            reached_here.append(rows.unique().numel())
            assert rows.unique().numel() == columns.unique().numel()
        reached.append(reached_here)
        fields = [field for field in path_fields(config) if field.stage == index + FIRST_STAGE]
        assert reached_here == [field.embedding_window for field in fields]
    assert reached == windows


def test_position_encodings_are_registered_once() -> None:
    model = build_model("tiny")
    named = len([*model.named_parameters(remove_duplicate=False)])
    assert named == len([*model.parameters()])
    assert sum(parameter.numel() for parameter in model.parameters()) == VARIANTS["tiny"].published.params


def test_drop_path_drops_a_residual_of_a_sample_or_scales_it_up() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 3, 2)
    dropped = DropPath(0.25)(x)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (dropped.flatten(1).std(1) == 0).all()  # a sample is dropped whole
    assert dropped.mean().item() == pytest.approx(1, abs=0.04)  # five standard deviations of 4000 coins
    assert torch.equal(DropPath(0.25).eval()(x), x)


def test_drop_path_acts_in_training_only() -> None:
    config = ModelConfig(SMALL.stages, drop_path=0.9)
    model = build_model(config)
    model.load_state_dict(build_model(config).state_dict())
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.eval()  # so that only drop path tells training from evaluation
    image = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model(image), model(image))
        model.eval()
        assert torch.equal(model(image), model(image))


def test_drop_path_grows_linearly_over_the_layers_and_is_the_same_for_all_paths() -> None:
    rates: dict[str, list[float]] = {}
    for name, module in build_model("small").named_modules():
        if isinstance(module, DropPath):
            rates.setdefault(name.partition(".layers.")[0], []).append(module.rate)
    expected = [0.05 * i / 12 for i in range(13)]  # 1 + 3 + 6 + 3 layers
    for stage, layers, paths in ((0, slice(0, 1), 2), (1, slice(1, 4), 3), (2, slice(4, 10), 3), (3, slice(10, 13), 3)):
        for path in range(paths):
            assert rates[f"stages.{stage}.paths.{path}"] == pytest.approx(expected[layers])


@pytest.fixture(scope="module")
def initialised() -> MPViT:
    torch.manual_seed(0)
    return build_model("tiny")


@pytest.mark.parametrize(
    ("name", "std"),
    [
        ("head.weight", 0.02),
        ("stages.2.paths.1.layers.0.attention.qkv.weight", 0.02),
        ("stem.1.conv.weight", math.sqrt(2 / (9 * 64))),
        ("stages.3.paths.0.embedding.depthwise.weight", math.sqrt(2 / (9 * 216))),  # not divided by its groups
        ("stages.3.paths.0.embedding.pointwise.weight", math.sqrt(2 / 216)),
        ("stages.3.local.depthwise.conv.weight", math.sqrt(2 / 9)),  # divided by them
        ("stages.3.fusion.conv.weight", math.sqrt(2 / 216)),
    ],
)
def test_initialisation_has_the_published_spread(initialised: MPViT, name: str, std: float) -> None:
    weight = initialised.get_parameter(name)
    assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * weight.numel()))
    assert abs(weight.mean().item()) <= 5 * std / math.sqrt(weight.numel())


def test_build_model_takes_a_name_or_a_configuration() -> None:
    assert str(build_model("tiny")) == str(build_model(VARIANTS["tiny"].config))
    with pytest.raises(UsageError, match="unknown variant 'large'"):
        build_model("large")


def test_the_package_lists_its_names_without_importing_them() -> None:
    assert set(mpvit.__all__) <= set(dir(mpvit))
    with pytest.raises(AttributeError, match="no attribute 'vit'"):
        _ = mpvit.vit

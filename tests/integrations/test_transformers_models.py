"""The models of transformers compute what the network does, and have the features of transformers' models."""

import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoBackbone, AutoConfig, AutoModel, AutoModelForImageClassification

from mpvit import ModelConfig, StageConfig, build_model, create_backbone
from mpvit.architecture.variants import NETWORKS
from mpvit.attention import KINDS
from mpvit.errors import MpvitError, UsageError
from mpvit.integrations.transformers import (
    MPViTBackbone,
    MPViTConfig,
    MPViTForImageClassification,
    MPViTModel,
    from_weights,
)
from mpvit.model.weights import save_weights

pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

STAGES = (StageConfig(2, 1, 8, 2, 2), *(StageConfig(1, 1, dim, 2, 1) for dim in (12, 16, 20)))
NETWORK = ModelConfig(STAGES, num_classes=5, drop_path=0.1)
"""A small network with four stages like the published ones."""

PICTURES = torch.randn(2, 3, 45, 66, generator=torch.Generator().manual_seed(0))
MODELS: dict[str, tuple[Any, Any]] = {
    "maps": (MPViTModel, AutoModel),
    "classes": (MPViTForImageClassification, AutoModelForImageClassification),
    "backbone": (MPViTBackbone, AutoBackbone),
}


def config(**own: Any) -> MPViTConfig:  # noqa: ANN401
    return MPViTConfig.of(NETWORK, **own)


# ── the configuration ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NETWORKS)
def test_a_configuration_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    MPViTConfig.of(name, out_features=["stage1"]).save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(again, MPViTConfig)
    assert again.network() == replace(NETWORKS[name], num_classes=0)
    assert again.num_labels == NETWORKS[name].num_classes
    assert again.out_features == ["stage1"]
    assert again.out_indices == [0]


def test_without_arguments_it_is_the_default_variant() -> None:
    """Tools of transformers compare a configuration with the default one."""
    assert MPViTConfig().network() == replace(NETWORKS["xsmall"], num_classes=0)


def test_an_invalid_configuration_is_refused() -> None:
    with pytest.raises(UsageError, match=r"stages\[0\]\.heads = 3|dim = 8: must be divisible by heads = 3"):
        MPViTConfig(stages=[{"paths": 1, "layers": 1, "dim": 8, "heads": 3, "mlp_ratio": 2}])
    with pytest.raises(ValueError, match="out_features"):
        config(out_features=["stage5"])


# ── the same function ───────────────────────────────────────────────────────────────────────────────────────────────


def test_it_computes_what_the_network_does() -> None:
    network = build_model(NETWORK).eval()
    tensors = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("head.")}
    model, backbone = MPViTModel(config()).eval(), MPViTBackbone(config(out_indices=(1, 3))).eval()
    classifier = MPViTForImageClassification(config()).eval()
    classifier.classifier.load_state_dict(network.get_submodule("head").state_dict())
    for each in (model.network, backbone.network, classifier.mpvit.network):
        each.load_state_dict(tensors)
    with torch.inference_mode():
        pyramid, seen = network.forward_features(PICTURES), model(PICTURES, output_hidden_states=True)
        assert all(map(torch.equal, seen.hidden_states, pyramid))
        assert torch.equal(seen.last_hidden_state, pyramid[-1])
        assert torch.allclose(seen.pooler_output, pyramid[-1].mean((2, 3)), atol=1e-6)
        assert torch.equal(classifier(PICTURES).logits, network(PICTURES))
        assert all(map(torch.equal, backbone(PICTURES).feature_maps, (pyramid[1], pyramid[3])))
        everything = backbone(PICTURES, output_hidden_states=True)
        assert all(map(torch.equal, everything.hidden_states, pyramid))
        assert backbone(PICTURES).hidden_states is None
    assert backbone.channels == create_backbone(NETWORK, (1, 3)).feature_info.channels()
    assert backbone.channels == [each.shape[1] for each in everything.feature_maps]


def test_a_backbone_returns_the_last_map_by_default() -> None:
    backbone = AutoBackbone.from_config(config())
    assert isinstance(backbone, MPViTBackbone)
    assert backbone.out_features == ["stage4"]
    backbone.out_indices = [0, 2]
    assert backbone.out_features == ["stage1", "stage3"]
    assert [each.shape[1] for each in backbone(PICTURES).feature_maps] == backbone.channels == [12, 20]


@pytest.mark.parametrize("name", MODELS)
def test_hidden_states_and_tuples_are_requested_in_configuration_or_call(name: str) -> None:
    model = MODELS[name][0](config(output_hidden_states=True)).eval()
    with torch.inference_mode():
        found, plain = model(PICTURES), model(PICTURES, return_dict=False)
        assert len(found.hidden_states) == len(STAGES)
        assert model(PICTURES, output_hidden_states=False).hidden_states is None
    assert isinstance(plain, tuple)
    assert torch.equal(
        nn.utils.parameters_to_vector(_tensors(found.to_tuple())), nn.utils.parameters_to_vector(_tensors(plain))
    )


def _tensors(nested: Any) -> list[torch.Tensor]:  # noqa: ANN401
    return [nested] if isinstance(nested, torch.Tensor) else [tensor for each in nested for tensor in _tensors(each)]


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_is_loaded(name: str, tmp_path: Path) -> None:
    kind, auto = MODELS[name]
    model = kind(config()).eval()
    model(PICTURES)
    model.save_pretrained(tmp_path)
    loader = kind if auto is AutoBackbone else auto  # which takes a name on the hub alone, no folder
    again, report = loader.from_pretrained(tmp_path, output_loading_info=True)
    assert type(again) is kind
    assert not any(report.values())
    assert not again.training
    _assert_same(again.state_dict(), model.state_dict())


def test_a_classifier_initialises_the_other_models(tmp_path: Path) -> None:
    model = MPViTForImageClassification(config())
    model.save_pretrained(tmp_path)
    _assert_same(MPViTModel.from_pretrained(tmp_path).state_dict(), model.mpvit.state_dict())
    backbone = MPViTBackbone.from_pretrained(tmp_path, out_features=["stage1", "stage2"])
    _assert_same(backbone.state_dict(), model.mpvit.state_dict())
    assert backbone.channels == [12, 16]
    other: Any = MPViTForImageClassification.from_pretrained(tmp_path, num_labels=40, ignore_mismatched_sizes=True)
    _assert_same(other.mpvit.state_dict(), model.mpvit.state_dict())
    assert other.classifier.weight.shape == (40, 20)
    assert 0.015 < other.classifier.weight.std() < 0.025  # truncated normal of 0.02, as published
    assert not other.classifier.bias.any()


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_a_file_lacks_are_initialised_as_published(kind: str) -> None:
    """transformers first builds a network on the meta device."""
    network = config_of(kind)
    made = MPViTModel.from_pretrained(None, config=MPViTConfig.of(network), state_dict={}).network
    wanted = build_model(replace(network, num_classes=0)).state_dict()
    for name, tensor in made.state_dict().items():
        if wanted[name].float().std(correction=0) == 0:
            assert torch.equal(tensor, wanted[name]), name
        else:
            assert tensor.isfinite().all(), name
            assert 0.5 < tensor.std() / wanted[name].std() < 2, name


def config_of(kind: str) -> ModelConfig:
    return ModelConfig((StageConfig(1, 1, 32, 2, 2, attention=kind),), num_classes=5)


def test_tensors_that_a_file_holds_are_kept(tmp_path: Path) -> None:
    model = MPViTModel(config())
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "stages.1.paths" not in name}
    again = MPViTModel.from_pretrained(None, config=config(), state_dict=dict(tensors))
    _assert_same({name: again.state_dict()[name] for name in tensors}, tensors)
    again.save_pretrained(tmp_path)
    assert all(tensor.isfinite().all() for tensor in again.state_dict().values())


def test_weights_of_this_project_become_a_model(tmp_path: Path) -> None:
    network = build_model(NETWORK).eval()
    names = ("ant", "bee", "cat", "dog", "eel")
    save_weights(network, tmp_path / "weights.safetensors", classes=names)
    model, _ = from_weights(tmp_path / "weights.safetensors")
    assert model.config.id2label == dict(enumerate(names))
    assert model.config.label2id == {name: index for index, name in enumerate(names)}
    with torch.inference_mode():
        assert torch.equal(model(PICTURES).logits, network(PICTURES))


def test_weights_without_a_classifier_become_a_model_too(tmp_path: Path) -> None:
    network = build_model(replace(NETWORK, num_classes=0)).eval()
    save_weights(network, tmp_path / "weights.safetensors")
    model, _ = from_weights(tmp_path / "weights.safetensors")
    with torch.inference_mode():
        assert torch.equal(model(PICTURES).logits, network(PICTURES))


def _assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert [name for name, tensor in found.items() if not torch.equal(tensor, wanted[name])] == []


# ── training ────────────────────────────────────────────────────────────────────────────────────────────────────────

LOSSES: dict[str, tuple[dict[str, Any], torch.Tensor, nn.Module]] = {
    "one of several": ({}, torch.tensor([1, 4]), nn.CrossEntropyLoss()),
    "any of several": (
        {"problem_type": "multi_label_classification"},
        torch.eye(5)[:2],
        nn.BCEWithLogitsLoss(),
    ),
    "a number": ({"num_labels": 1}, torch.tensor([0.5, -2]), nn.MSELoss()),
}


@pytest.mark.parametrize(("own", "labels", "loss"), LOSSES.values(), ids=LOSSES)
def test_the_loss_is_that_of_torch(own: dict[str, Any], labels: torch.Tensor, loss: nn.Module) -> None:
    model = MPViTForImageClassification(MPViTConfig(**{**config().to_dict(), "id2label": None, "num_labels": 5, **own})).eval()
    with torch.inference_mode():
        found = model(PICTURES, labels=labels)
        assert torch.isclose(found.loss, loss(found.logits.squeeze(1) if labels.ndim == 1 and own else found.logits, labels))


def test_every_parameter_gets_a_gradient() -> None:
    model = MPViTForImageClassification(config(drop_path_rate=0.0)).train()
    model(PICTURES, labels=torch.tensor([0, 3])).loss.backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.isfinite().all()] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_other_dtypes(dtype: torch.dtype, tmp_path: Path) -> None:
    MPViTForImageClassification(config()).save_pretrained(tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path, dtype=dtype)
    assert {each.dtype for each in model.parameters()} == {dtype}
    found = model(PICTURES.to(dtype)).logits
    assert found.dtype == dtype
    assert found.isfinite().all()


def test_unsupported_features_are_refused() -> None:
    model = MPViTModel(config())
    with pytest.raises(ValueError, match="does not support"):
        model.activation_checkpointing_enable()
    with pytest.raises(TypeError, match="output_attentions"):
        model(PICTURES, output_attentions=True)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    room = "mpvit.integrations.transformers"
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, room)
    with pytest.raises(MpvitError, match=r"^transformers is not installed$") as refused:
        import_module(room)
    assert refused.value.hint == "pip install 'mpvit[transformers]' installs it"

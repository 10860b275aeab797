import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import mpvit
from mpvit import ModelConfig, StageConfig, build_model, create_backbone, save_weights
from mpvit.errors import MpvitError, UsageError, WeightsError
from mpvit.prediction.pretrained import shipped_weights

STAGES = (StageConfig(2, 1, 8, 2, 2), *(StageConfig(1, 1, dim, 2, 1) for dim in (12, 16, 20)))
FOUR = ModelConfig(STAGES, num_classes=5)
"""A small network with four stages like the published ones."""


@pytest.mark.parametrize("indices", [(0,), (3,), (1, 2), (0, 3), (1, 2, 3), [0, 1, 2, 3]], ids=str)
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (65, 30)], ids=str)
def test_the_backbone_returns_the_chosen_feature_maps_of_the_network(
    indices: list[int], size: tuple[int, int], tmp_path: Path
) -> None:
    network = build_model(FOUR).eval()
    save_weights(network, tmp_path / "weights.safetensors")
    backbone = create_backbone(FOUR, indices, weights=tmp_path / "weights.safetensors").eval()
    image = torch.randn(2, 3, *size)
    with torch.inference_mode():
        maps, pyramid = backbone(image), network.forward_features(image)
    assert isinstance(maps, list)
    assert all(torch.equal(found, pyramid[index]) for found, index in zip(maps, indices, strict=True))
    info = backbone.feature_info
    expected = [
        (2, channels, *(math.ceil(length / reduction) for length in size))
        for channels, reduction in zip(info.channels(), info.reduction(), strict=True)
    ]
    assert [tuple(found.shape) for found in maps] == expected


@pytest.mark.parametrize("variant", mpvit.VARIANTS)
def test_published_variants_have_the_channels_of_the_paper(variant: str) -> None:
    """Table 1: the output of a stage has the channels of the next stage; figure 2: the strides are 4 to 32."""
    with torch.device("meta"):
        info = create_backbone(variant).feature_info
    dims = [stage.dim for stage in mpvit.VARIANTS[variant].config.stages]
    assert info.channels() == [*dims[1:], dims[-1]]
    assert info.reduction() == [4, 8, 16, 32]


def test_feature_info_has_the_interface_of_timm() -> None:
    info = create_backbone(FOUR, (1, 3)).feature_info
    assert len(info) == 4
    assert (info.channels(), info.reduction(), info.module_name()) == ([16, 20], [8, 32], ["stages.1", "stages.3"])
    assert (info.channels(0), info.reduction(0), info.module_name(0)) == (12, 4, "stages.0")
    assert (info.channels([0, 2]), info.reduction([0, 2])) == ([12, 20], [4, 16])
    assert info[1] == {"num_chs": 16, "reduction": 8, "module": "stages.1", "index": 1}
    assert info.get_dicts() == [info[1], info[3]]
    assert info.get_dicts(keys=["num_chs"], idx=[0]) == [{"num_chs": 12}]
    assert info.out_indices == (1, 3)


def test_feature_info_names_the_modules_of_the_maps() -> None:
    backbone = create_backbone(FOUR)
    maps: dict[str, torch.Tensor] = {}
    for name in backbone.feature_info.module_name():
        backbone.get_submodule(name).register_forward_hook(lambda _, __, output, name=name: maps.update({name: output}))
    found = backbone(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(one, maps[name]) for one, name in zip(found, backbone.feature_info.module_name(), strict=True))


def test_stages_after_the_last_map_are_not_built() -> None:
    def params(module: torch.nn.Module) -> int:
        return sum(each.numel() for each in module.parameters())

    network = build_model(FOUR)
    assert params(create_backbone(FOUR)) == params(network) - params(network.get_submodule("head"))
    assert params(create_backbone(FOUR, (0, 1))) == sum(
        params(network.get_submodule(name)) for name in ("stem", "stages.0", "stages.1")
    )


def test_shipped_weights_load_without_their_classifier() -> None:
    backbone = create_backbone("digits-nano", weights=shipped_weights("digits-nano"))
    assert not [name for name in backbone.state_dict() if name.startswith("head")]
    assert backbone.feature_info.channels() == [48, 48]


def test_a_published_checkpoint_of_any_number_of_classes_fits(tmp_path: Path) -> None:
    network = build_model(replace(FOUR, num_classes=7))
    save_weights(network, tmp_path / "checkpoint.pth", layout="published")
    backbone = create_backbone(FOUR, weights=tmp_path / "checkpoint.pth")
    wanted = network.state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in backbone.state_dict().items())


REFUSED: dict[str, tuple[Any, Any, str]] = {
    "unknown variant": ("smal", (1,), "unknown variant 'smal'"),
    "beyond the last": (FOUR, (1, 4), "out_indices = (1, 4): must be at least one stage from 0 to 3, in increasing order"),
    "negative": (FOUR, (-1,), "out_indices = (-1,): must be"),
    "repeated": (FOUR, (1, 1), "out_indices = (1, 1): must be"),
    "falling": (FOUR, (2, 1), "out_indices = (2, 1): must be"),
    "empty": (FOUR, (), "out_indices = (): must be"),
    "words": (FOUR, "12", "out_indices = '12': must be"),
    "a number": (FOUR, 3, "out_indices = 3: must be"),
    "truth values": (FOUR, (False, True), "out_indices = (False, True): must be"),
}


@pytest.mark.parametrize(("model", "indices", "message"), REFUSED.values(), ids=REFUSED)
def test_invalid_indices_are_refused_in_one_line(model: Any, indices: Any, message: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError) as refused:
        create_backbone(model, indices)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(WeightsError, match="saved from another configuration"):
        create_backbone(FOUR, weights=shipped_weights("digits-nano"))
    with pytest.raises(MpvitError, match="cannot read weights"):
        create_backbone(FOUR, weights="nowhere.safetensors")

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mpvit import VARIANTS, ModelConfig, StageConfig, load_config
from mpvit.architecture.config import config_from_dict
from mpvit.architecture.variants import get_variant
from mpvit.errors import UsageError

STAGE: dict[str, Any] = {"paths": 2, "layers": 1, "dim": 64, "heads": 8, "mlp_ratio": 4}


@pytest.mark.parametrize(
    ("heads", "split"),
    [
        (8, ((3, 2), (5, 3), (7, 3))),  # as published
        (16, ((3, 4), (5, 6), (7, 6))),
        (4, ((3, 1), (5, 2), (7, 1))),
        (1, ((5, 1),)),
    ],
)
def test_heads_are_split_over_the_windows_in_proportion(heads: int, split: tuple[tuple[int, int], ...]) -> None:
    assert StageConfig(**{**STAGE, "heads": heads}).head_windows() == split


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("paths", 0, "whole number of at least 1"),
        ("paths", True, "whole number of at least 1"),
        ("layers", -1, "whole number of at least 1"),
        ("dim", 2.0, "whole number of at least 1"),
        ("dim", 65, "divisible by heads = 8"),
        ("heads", 0, "whole number of at least 1"),
        ("heads", 7, "divisible by heads = 7"),
        ("mlp_ratio", 0, "above 0"),
        ("mlp_ratio", float("nan"), "above 0"),
        ("mlp_ratio", 1.01, "whole number of hidden channels"),
        ("crpe_windows", ((4, 8),), "odd window"),
        ("crpe_windows", ((3, 0),), "share of the heads of at least 1"),
        ("crpe_windows", (3, 5, 7), "pairs"),
        ("attention", 3, "must be a name"),
        ("local", 1, "must be True or False"),
        ("cpe", "off", "must be True or False"),
        ("fusion", "add", "must be 'concat' or 'sum'"),
        ("fusion", True, "must be 'concat' or 'sum'"),
        ("patch_embed", "serial", "must be 'series' or 'parallel'"),
        ("patch_embed", ("series",), "must be 'series' or 'parallel'"),
    ],
)
def test_wrong_stage_is_refused_with_field_value_and_rule(field: str, value: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError) as caught:
        StageConfig(**{**STAGE, field: value})
    named = "dim = 64" if (field, value) == ("heads", 7) else f"{field} = {value!r}"
    assert named in str(caught.value)
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("stages", (), "at least one StageConfig"),
        ("stages", (StageConfig(1, 1, 3, 1, 1),), "must be even"),
        ("in_channels", 0, "at least 1"),
        ("num_classes", -1, "at least 0"),
        ("drop_path", 1.0, "[0, 1)"),
        ("drop_path", "0.1", "[0, 1)"),
    ],
)
def test_wrong_network_is_refused_with_field_and_rule(field: str, value: Any, rule: str) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=field) as caught:
        ModelConfig(**{"stages": (StageConfig(**STAGE),), field: value})
    assert rule in str(caught.value)


def test_configuration_is_immutable_and_hashable() -> None:
    one, other = (ModelConfig((StageConfig(**STAGE),)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.num_classes = 10  # type: ignore[misc]


@pytest.mark.parametrize(("name", "layers", "dims", "mlp_ratio", "drop_path"), [
    ("tiny", (1, 2, 4, 1), (64, 96, 176, 216), 2, 0.0),
    ("xsmall", (1, 2, 4, 1), (64, 128, 192, 256), 4, 0.0),
    ("small", (1, 3, 6, 3), (64, 128, 216, 288), 4, 0.05),
    ("base", (1, 3, 8, 3), (128, 224, 368, 480), 4, 0.3),
])  # fmt: skip
def test_variants_are_those_of_the_paper(
    name: str, layers: tuple[int, ...], dims: tuple[int, ...], mlp_ratio: int, drop_path: float
) -> None:
    config = VARIANTS[name].config
    assert tuple(s.paths for s in config.stages) == (2, 3, 3, 3)
    assert tuple(s.layers for s in config.stages) == layers
    assert tuple(s.dim for s in config.stages) == dims
    assert {(s.mlp_ratio, s.heads) for s in config.stages} == {(mlp_ratio, 8)}
    assert (config.drop_path, config.in_channels, config.num_classes) == (drop_path, 3, 1000)


def test_mistyped_variant_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="'xsmal'") as caught:
        get_variant("xsmal")
    assert "'xsmall'" in caught.value.hint


TOML = """
in_channels = 1
num_classes = 10
drop_path = 0.1
[[stages]]
paths = 2
layers = 3
dim = 32
heads = 4
mlp_ratio = 2
[[stages]]
paths = 4
layers = 1
dim = 30
heads = 3
mlp_ratio = 1.5
crpe_windows = [[3, 1], [9, 2]]
"""


def test_toml_file_has_the_fields_of_the_configuration(tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    file.write_text(TOML)
    assert load_config(file) == ModelConfig(
        (StageConfig(2, 3, 32, 4, 2), StageConfig(4, 1, 30, 3, 1.5, ((3, 1), (9, 2)))), 1, 10, 0.1
    )


def test_toml_file_with_changed_parts(tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    file.write_text(TOML + 'local = false\ncpe = false\nfusion = "sum"\npatch_embed = "parallel"\n')
    first, second = load_config(file).stages
    assert (first.local, first.cpe, first.fusion, first.patch_embed) == (True, True, "concat", "series")  # as published
    assert (second.local, second.cpe, second.fusion, second.patch_embed) == (False, False, "sum", "parallel")


@pytest.mark.parametrize("name", VARIANTS)
def test_configuration_is_rebuilt_from_plain_data(name: str) -> None:
    config = VARIANTS[name].config
    assert config_from_dict(dataclasses.asdict(config)) == config


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("dim = 32", "dim = 33", "stages[0].dim = 33: must be divisible by heads = 4"),
        ("dim = 32", 'dim = "32"', "stages[0].dim = '32': must be a whole number"),
        ("dim = 32", "", "stages[0] lacks 'dim'"),
        ("dim = 32", "dmi = 32", "unknown field of stages[0] 'dmi'"),
        ("in_channels", "channels", "unknown field of the configuration 'channels'"),
        ("[[stages]]", "[[stage]]", "unknown field of the configuration 'stage'"),
        ("drop_path = 0.1", "drop_path = ", "is not TOML"),
        ("drop_path = 0.1", "drop_path = " + "[" * 100_000, "nested too deep"),
        ("[[3, 1], [9, 2]]", "[[3, 1], 9]", "stages[1].crpe_windows"),
    ],
)
def test_wrong_file_is_refused_with_its_name_and_the_error(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    file = tmp_path / "network.toml"
    file.write_text(TOML.replace(old, new))
    with pytest.raises(UsageError) as caught:
        load_config(file)
    assert str(caught.value).startswith(str(file))
    assert complaint in str(caught.value)

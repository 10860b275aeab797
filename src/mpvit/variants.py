"""The published networks: their configurations, what they cost and score as published, where their weights stood."""

from dataclasses import dataclass

from mpvit.config import ModelConfig, StageConfig
from mpvit.errors import unknown_name
from mpvit.operations import Cost


@dataclass(frozen=True, slots=True)
class PublishedAccuracy:
    """Percent of ImageNet-1K's validation images whose class is the first, or among the first five, at 224x224 pixels."""

    top1: float
    top5: float
    source: str = "the authors' released ImageNet-1K evaluation (Lee et al., CVPR 2022, arXiv:2112.11010)"


@dataclass(frozen=True, slots=True)
class Variant:
    """A published network: its configuration, what it costs and how well it does, where its ImageNet-1K weights stood.

    ``published`` is what the authors' code counts at 224x224, batch 1, by fvcore: the paper calls these MACs "FLOPs".
    """

    config: ModelConfig
    published: Cost
    accuracy: PublishedAccuracy
    weights_url: str


def _variant(
    layers: tuple[int, ...],
    dims: tuple[int, ...],
    mlp_ratio: int,
    drop_path: float,
    counts: tuple[int, int, int],
    accuracy: tuple[float, float],
    file: str,
) -> Variant:
    paths = (2, 3, 3, 3)
    stages = tuple(StageConfig(p, n, dim, 8, mlp_ratio) for p, n, dim in zip(paths, layers, dims, strict=True))
    config, url = ModelConfig(stages, drop_path=drop_path), f"https://dl.dropbox.com/s/{file}"
    return Variant(config, Cost(*counts), PublishedAccuracy(*accuracy), url)


VARIANTS: dict[str, Variant] = {
    "tiny": _variant(
        (1, 2, 4, 1),
        (64, 96, 176, 216),
        2,
        0.0,
        (5_843_736, 1_654_163_812, 16_641_952),
        (78.210, 94.270),
        "1cmquqyjmaeeg1n/mpvit_tiny.pth",
    ),
    "xsmall": _variant(
        (1, 2, 4, 1),
        (64, 128, 192, 256),
        4,
        0.0,
        (10_573_448, 2_971_396_560, 21_983_464),
        (80.896, 95.352),
        "vvpq2m474g8tvyq/mpvit_xsmall.pth",
    ),
    "small": _variant(
        (1, 3, 6, 3),
        (64, 128, 216, 288),
        4,
        0.05,
        (22_892_400, 4_799_650_824, 30_601_880),
        (82.960, 96.154),
        "y3dnmmy8h4npz7a/mpvit_small.pth",
    ),
    "base": _variant(
        (1, 3, 8, 3),
        (128, 224, 368, 480),
        4,
        0.3,
        (74_845_976, 16_445_326_240, 60_204_392),
        (84.292, 96.820),
        "la8w31m0apj2830/mpvit_base.pth",
    ),
}
"""The published variants; layers, channels and MLP ratio from Table 1 of the paper, always 2, 3, 3, 3 paths and 8 heads."""


SHIPPED: dict[str, ModelConfig] = {
    "digits-nano": ModelConfig((StageConfig(1, 1, 32, 4, 2), StageConfig(3, 1, 48, 4, 2)), num_classes=10),
}
"""Networks whose weights come with the package, for trying: handwritten digits (``make digits`` trains it)."""


SMALL: dict[str, ModelConfig] = {
    "pyramid-nano": ModelConfig(
        (StageConfig(1, 1, 24, 4, 2), StageConfig(2, 1, 32, 4, 2), StageConfig(2, 1, 48, 4, 2), StageConfig(2, 1, 64, 4, 2)),
        num_classes=10,
    ),
}
"""Networks for trying, without weights: four stages, as detectors and segmenters need, that train on one core in minutes."""


DEFAULT_VARIANT = "xsmall"
"""Taken where one is meant and none is named: the paper's running example."""


NETWORKS: dict[str, ModelConfig] = {**{name: variant.config for name, variant in VARIANTS.items()}, **SHIPPED, **SMALL}
"""Whatever has a name: the published variants, and what comes along."""


def get_config(name: str) -> ModelConfig:
    """Return the configuration of the network ``name``; raise ``UsageError`` with the nearest name for any other."""
    if name not in NETWORKS:
        raise unknown_name("variant", name, NETWORKS)
    return NETWORKS[name]


def get_variant(name: str) -> Variant:
    """Return the published variant ``name``; raise ``UsageError`` with the nearest name for any other."""
    if name not in VARIANTS:
        raise unknown_name("variant", name, VARIANTS)
    return VARIANTS[name]

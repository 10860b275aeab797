"""Configurations of networks by name: the published variants with their published figures, and small networks."""

from dataclasses import dataclass

from mpvit.architecture.config import ModelConfig, StageConfig
from mpvit.errors import unknown_name
from mpvit.operations import Cost


@dataclass(frozen=True, slots=True)
class PublishedAccuracy:
    """Top-1 and top-5 accuracy on the validation split of ImageNet-1K at 224x224 pixels, in percent."""

    top1: float
    top5: float
    source: str = "the authors' released ImageNet-1K evaluation (Lee et al., CVPR 2022, arXiv:2112.11010)"


@dataclass(frozen=True, slots=True)
class Variant:
    """A published network.

    Attributes:
        config: the configuration.
        published: cost at 224x224 and batch 1, as fvcore counts the authors' code; the paper calls these MACs "FLOPs".
        accuracy: accuracy on ImageNet-1K.
        weights_url: former address of the ImageNet-1K weights.
    """

    config: ModelConfig
    published: Cost
    accuracy: PublishedAccuracy
    weights_url: str


def _config(layers: tuple[int, ...], dims: tuple[int, ...], mlp_ratio: int, drop_path: float = 0.0) -> ModelConfig:
    paths, heads = (2, 3, 3, 3), 8
    stages = (StageConfig(*sizes, heads, mlp_ratio) for sizes in zip(paths, layers, dims, strict=True))
    return ModelConfig(tuple(stages), drop_path=drop_path)


VARIANTS: dict[str, Variant] = {
    "tiny": Variant(
        _config((1, 2, 4, 1), (64, 96, 176, 216), 2),
        Cost(5_843_736, 1_654_163_812, 16_641_952),
        PublishedAccuracy(78.210, 94.270),
        "https://dl.dropbox.com/s/1cmquqyjmaeeg1n/mpvit_tiny.pth",
    ),
    "xsmall": Variant(
        _config((1, 2, 4, 1), (64, 128, 192, 256), 4),
        Cost(10_573_448, 2_971_396_560, 21_983_464),
        PublishedAccuracy(80.896, 95.352),
        "https://dl.dropbox.com/s/vvpq2m474g8tvyq/mpvit_xsmall.pth",
    ),
    "small": Variant(
        _config((1, 3, 6, 3), (64, 128, 216, 288), 4, 0.05),
        Cost(22_892_400, 4_799_650_824, 30_601_880),
        PublishedAccuracy(82.960, 96.154),
        "https://dl.dropbox.com/s/y3dnmmy8h4npz7a/mpvit_small.pth",
    ),
    "base": Variant(
        _config((1, 3, 8, 3), (128, 224, 368, 480), 4, 0.3),
        Cost(74_845_976, 16_445_326_240, 60_204_392),
        PublishedAccuracy(84.292, 96.820),
        "https://dl.dropbox.com/s/la8w31m0apj2830/mpvit_base.pth",
    ),
}
"""The published variants; layers, channels and MLP ratio are from Table 1 of the paper."""


SHIPPED: dict[str, ModelConfig] = {
    "digits-nano": ModelConfig((StageConfig(1, 1, 32, 4, 2), StageConfig(3, 1, 48, 4, 2)), num_classes=10),
}
"""Small networks whose weights come with the package: handwritten digits (``make digits`` trains it)."""


SMALL: dict[str, ModelConfig] = {
    "pyramid-nano": ModelConfig(
        (StageConfig(1, 1, 24, 4, 2), StageConfig(2, 1, 32, 4, 2), StageConfig(2, 1, 48, 4, 2), StageConfig(2, 1, 64, 4, 2)),
        num_classes=10,
    ),
}
"""Small networks without weights that train in minutes on one core, with the four stages of detectors and segmenters."""


DEFAULT_VARIANT = "xsmall"
"""Default network of commands and functions: the paper's running example."""


NETWORKS: dict[str, ModelConfig] = {**{name: variant.config for name, variant in VARIANTS.items()}, **SHIPPED, **SMALL}
"""All networks that have a name."""


def get_config(name: str) -> ModelConfig:
    """Return the configuration of a named network; raise ``UsageError`` with the nearest name for an unknown one."""
    if name not in NETWORKS:
        raise unknown_name("variant", name, NETWORKS)
    return NETWORKS[name]


def get_variant(name: str) -> Variant:
    """Return a published variant; raise ``UsageError`` with the nearest name for an unknown one."""
    if name not in VARIANTS:
        raise unknown_name("variant", name, VARIANTS)
    return VARIANTS[name]

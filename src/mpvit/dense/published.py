"""Published parameters and multiply-adds of detectors and segmenters on the network.

The figures are in tables 2 to 4 of Lee et al., CVPR 2022 (arXiv:2112.11010), in whole millions and billions. The "FLOPs" of the
paper are multiply-adds.
"""

from dataclasses import dataclass, replace

from mpvit.architecture.config import ModelConfig
from mpvit.architecture.variants import get_config

CONVENTION = "published-dense"
"""Convention that explains the published figures."""


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """Published figures of a task on a variant.

    Attributes:
        task: name of the task.
        variant: name of the backbone.
        params_millions: parameters, in millions.
        macs_billions: multiply-adds, in billions.
        mlp_ratio: MLP ratio of the backbone if the published figures exclude the variant's own; else None.
        explained: whether a convention gives the published multiply-adds.
    """

    task: str
    variant: str
    params_millions: int
    macs_billions: int
    mlp_ratio: int | None = None
    explained: bool = True

    @property
    def config(self) -> ModelConfig:
        """Configuration of the backbone."""
        config = get_config(self.variant)
        if self.mlp_ratio is None:
            return config
        return replace(config, stages=tuple(replace(stage, mlp_ratio=self.mlp_ratio) for stage in config.stages))

    def agreement(self, params: int, macs: int) -> tuple[bool, bool]:
        """Return whether the parameters, and whether the multiply-adds, round to the published figures."""
        return _rounded(params, 10**6) == self.params_millions, _rounded(macs, 10**9) == self.macs_billions

    @property
    def name(self) -> str:
        """Name of the backbone, with its MLP ratio if that differs from the variant's."""
        return self.variant if self.mlp_ratio is None else f"{self.variant} (MLP ratio {self.mlp_ratio})"


def _rounded(number: int, unit: int) -> int:
    return (number + unit // 2) // unit


PUBLISHED: tuple[PublishedTask, ...] = (
    PublishedTask("retinanet", "tiny", 17, 196, mlp_ratio=4),
    PublishedTask("retinanet", "xsmall", 20, 211),
    PublishedTask("retinanet", "small", 32, 248),
    PublishedTask("retinanet", "base", 85, 482),
    PublishedTask("mask-rcnn", "tiny", 28, 216, mlp_ratio=4),
    PublishedTask("mask-rcnn", "xsmall", 30, 231),
    PublishedTask("mask-rcnn", "small", 43, 268),
    PublishedTask("mask-rcnn", "base", 95, 503),
    PublishedTask("upernet", "small", 52, 943),
    PublishedTask("upernet", "base", 105, 1185, explained=False),
)
"""Published figures at the size and classes of each task."""

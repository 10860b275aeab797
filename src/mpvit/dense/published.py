"""What is published of detectors and segmenters on the network, and what came out here.

Figures from the authors' public result tables of Lee et al., CVPR 2022 (arXiv:2112.11010), its tables 2 to 4. They are
printed in whole millions and billions; "FLOPs" are multiply-adds.
"""

from dataclasses import dataclass, replace

from mpvit.config import ModelConfig
from mpvit.variants import get_config

CONVENTION = "published-dense"
"""The convention that explains the figures."""


@dataclass(frozen=True, slots=True)
class PublishedTask:
    """Printed figures of a task on a variant: millions of parameters, billions of multiply-adds.

    ``mlp_ratio`` is the backbone's where it cannot have been the classified network's. ``explained`` is False where no
    convention gives the printed multiply-adds.
    """

    task: str
    variant: str
    params_millions: int
    macs_billions: int
    mlp_ratio: int | None = None
    explained: bool = True

    @property
    def config(self) -> ModelConfig:
        """The backbone."""
        config = get_config(self.variant)
        if self.mlp_ratio is None:
            return config
        return replace(config, stages=tuple(replace(stage, mlp_ratio=self.mlp_ratio) for stage in config.stages))

    def agreement(self, params: int, macs: int) -> tuple[bool, bool]:
        """Tell whether parameters and multiply-adds round to the printed figures."""
        return _rounded(params, 10**6) == self.params_millions, _rounded(macs, 10**9) == self.macs_billions

    @property
    def name(self) -> str:
        """The backbone's name, with what it has other than the variant."""
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
"""At each task's own size and classes."""

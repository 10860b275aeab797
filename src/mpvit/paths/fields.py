"""How much of the image a path's tokens see before attention, in closed form: exact, from the configuration alone.

Attention reaches every token, so that a token behind it sees the whole image. What is counted here is what reaches a token
through convolutions: the stem, the patch embeddings, the local branches and the fusions of the stages before, and the path's
own embedding. The transformer layers of the stages before, with their position encodings, are left out.

All windows are odd and padded on both sides alike, so that each field is a square around its token. Source of the recurrence:
Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, equation 2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mpvit.config import FIRST_STAGE, ModelConfig

_STEM = ((3, 2), (3, 2))
"""(kernel, stride) of its convolutions."""

_LOCAL = 3
"""The window of the local branch's depthwise convolution."""


@dataclass(frozen=True, slots=True)
class PathField:
    """What a token of a path sees before attention.

    Attributes:
        stage: the paper's number.
        path: 1 the first.
        embedding_window: the side of a patch, in positions of the stage's input.
        receptive_field: the side of what a token sees of the image, in pixels, also where the image is smaller.
        token_stride: how far apart tokens are, in pixels.
    """

    stage: int
    path: int
    embedding_window: int
    receptive_field: int
    token_stride: int

    def as_row(self) -> dict[str, Any]:
        """Return the field as one flat row for JSON and CSV."""
        return {name: getattr(self, name) for name in self.__slots__}


def path_fields(config: ModelConfig) -> tuple[PathField, ...]:
    """Return the field of each path of each stage, in order."""
    return tuple(_walk(config))


def _walk(config: ModelConfig) -> Iterator[PathField]:
    side, apart = 1, 1  # of what one position sees, in pixels, and from one position to the next
    for kernel, stride in _STEM:
        side += (kernel - 1) * apart
        apart *= stride
    for index, stage in enumerate(config.stages):
        stride = config.stride(index)
        windows = [stage.patch_window(path, stride) for path in range(stage.paths)]
        sides = [side + (window - 1) * apart for window in windows]
        apart *= stride
        for path, (window, reached) in enumerate(zip(windows, sides, strict=True), 1):
            yield PathField(index + FIRST_STAGE, path, window, reached, apart)
        local = [sides[0] + (_LOCAL - 1) * apart] if stage.local else []
        side = max(sides + local)  # the fusion is 1x1: its output sees what any of its inputs does

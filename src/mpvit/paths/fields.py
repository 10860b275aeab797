"""Receptive field of each path before attention, in closed form from the configuration.

After attention, a token depends on the whole image. The field covers only convolutions: the stem, the patch embeddings, local
branches and fusions of earlier stages, and the path's own embedding. It leaves out the transformer layers of earlier stages
and their position encodings.

All windows are odd and padded equally on both sides, so each field is a square around its token. Source of the recurrence:
Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019, equation 2.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from mpvit.architecture.closed_form import network
from mpvit.architecture.config import FIRST_STAGE, TRAINED_SIZE, ModelConfig
from mpvit.operations import Node, walk


@dataclass(frozen=True, slots=True)
class PathField:
    """Receptive field of the tokens of one path before attention.

    Attributes:
        stage: number of the stage in the paper.
        path: number of the path, from 1.
        embedding_window: side of the window of a patch, in positions of the stage's input.
        receptive_field: side of the field in pixels, even if the image is smaller.
        token_stride: distance between neighbouring tokens, in pixels.
    """

    stage: int
    path: int
    embedding_window: int
    receptive_field: int
    token_stride: int

    def as_row(self) -> dict[str, Any]:
        """Return the field as one flat row for JSON and CSV."""
        return {name: getattr(self, name) for name in self.__slots__}


class _Field(NamedTuple):
    """Side of a receptive field and distance between neighbouring positions, both in positions of its input."""

    side: int = 1
    stride: int = 1

    def through(self, node: Node) -> "_Field":
        """Return the field after the convolutions of ``node``, which run one after another."""
        side, stride = self
        for _, _, operation in walk(node):
            if operation.kind == "conv":
                side += (operation.weights[0][-1] - 1) * stride
                stride *= operation.stride
        return _Field(side, stride)


def path_fields(config: ModelConfig) -> tuple[PathField, ...]:
    """Return the field of each path of each stage, in order."""
    tree = network(config, 1, TRAINED_SIZE, TRAINED_SIZE)
    field = _Field().through(tree.block("stem"))
    fields: list[PathField] = []
    for index, stage in enumerate(config.stages):
        block = tree.block("stages").block(str(index))
        window, reached, embedded = _Field(), field, []
        for path in range(stage.paths):
            if stage.patch_embed == "parallel":
                window, reached = _Field(), field  # each path embeds the stage's input, not the map of the path before it
            embedding = block.block("paths").block(str(path)).block("embedding")
            window, reached = window.through(embedding), reached.through(embedding)
            fields.append(PathField(index + FIRST_STAGE, path + 1, window.side, reached.side, reached.stride))
            embedded.append(reached)
        local = [embedded[0].through(block.block("local"))] if stage.local else []
        field = max(embedded + local)  # the fusion is 1x1
    return tuple(fields)

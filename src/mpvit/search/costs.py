"""The cost of each choice of a stage, in tables: the parameters and MACs of a network are a sum of one entry for each stage.

The cost of a stage depends on its own configuration and on the size of its input, which is the same for every choice. Only
the cost of its fusion, a 1x1 convolution with a norm, depends on the next stage: it is proportional to the output channels,
which are the channels of the next stage. The stem depends on the channels of the first stage, the head on those of the last.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mpvit.architecture.closed_form import network, parts
from mpvit.architecture.config import FIRST_STAGE, ModelConfig, StageConfig
from mpvit.operations import Cost, Node
from mpvit.operations.conventions import tally


class StageCost(NamedTuple):
    """One choice of a stage and its cost.

    ``macs`` and ``params`` are without the fusion, but with the stem in the first stage, and with the head and the fusion in
    the last. ``out_macs`` and ``out_params`` are those of the fusion for each output channel; 0 in the last stage.
    """

    stage: StageConfig
    macs: int
    params: int
    dim: int
    out_macs: int
    out_params: int


Table = tuple[StageCost, ...]


def cost_tables(
    stages: Sequence[Sequence[StageConfig]], size: tuple[int, int], convention: str, classes: int
) -> tuple[Table, ...]:
    """Return the cost of the choices of each stage on one image of ``size`` (height, width) under ``convention``.

    The head of the last stage has ``classes`` classes. The n-th entries of all tables are read from one counted network.
    """
    found: list[list[StageCost]] = [[] for _ in stages]
    for row in range(max(map(len, stages))):
        config = ModelConfig(tuple(choices[row % len(choices)] for choices in stages), num_classes=classes)
        tree = network(config, 1, *size)
        whole, pieces = parts(tree, "stage"), parts(tree, "path")
        for index, table in enumerate(found):
            if row < len(stages[index]):
                table.append(_stage_cost(config, index, whole, pieces, convention))
    return tuple(map(tuple, found))


def _stage_cost(config: ModelConfig, index: int, whole: dict[str, Node], pieces: dict[str, Node], convention: str) -> StageCost:
    stage, name, last = config.stages[index], f"stage {index + FIRST_STAGE}", index == len(config.stages) - 1
    own = [whole[name], *([whole["stem"]] if index == 0 else []), *([whole["head"]] if last else [])]
    cost = sum((tally(node, convention).cost for node in own), Cost())
    if last:
        return StageCost(stage, cost.macs, cost.params, stage.dim, 0, 0)
    fusion, out = tally(pieces[f"{name} fusion"], convention).cost, config.next_dim(index)
    cost -= fusion
    return StageCost(stage, cost.macs, cost.params, stage.dim, fusion.macs // out, fusion.params // out)

"""What each choice of a stage costs, in tables: a network's parameters and MACs are a sum of one look-up a stage.

A stage's cost depends on its own configuration and its input's size, which is the same for each choice, and on the
channels that it hands on, the next stage's, only in its fusion: a 1x1 convolution and its norm, whose every figure is
proportional to them. The stem depends on the first stage's channels and the head on the last one's.
"""

from collections.abc import Sequence
from typing import NamedTuple

from mpvit.closed_form import network, parts
from mpvit.config import FIRST_STAGE, ModelConfig, StageConfig
from mpvit.operations import Cost, Node
from mpvit.operations.conventions import tally


class Choice(NamedTuple):
    """One choice of a stage.

    Attributes:
        stage: its configuration.
        macs: all that it costs whatever comes behind it; the stem included in the first stage, the head in the last.
        params: likewise.
        dim: its channels.
        macs_out: what each channel that it hands on costs; 0 in the last stage, whose own channels those are.
        params_out: likewise.
    """

    stage: StageConfig
    macs: int
    params: int
    dim: int
    macs_out: int
    params_out: int


Table = tuple[Choice, ...]


def tables(stages: Sequence[Sequence[StageConfig]], size: tuple[int, int], convention: str, classes: int) -> tuple[Table, ...]:
    """Return each stage's choices with what they cost on one image of ``size`` (height, width) under ``convention``.

    The last one's head tells ``classes`` apart. Each of a few networks, read off stage by stage, fills a row of every table at
    once.
    """
    found: list[list[Choice]] = [[] for _ in stages]
    for row in range(max(map(len, stages))):
        config = ModelConfig(tuple(choices[row % len(choices)] for choices in stages), num_classes=classes)
        tree = network(config, 1, *size)
        whole, pieces = parts(tree, "stage"), parts(tree, "path")
        for index, table in enumerate(found):
            if row < len(stages[index]):
                table.append(_choice(config, index, whole, pieces, convention))
    return tuple(map(tuple, found))


def _choice(config: ModelConfig, index: int, whole: dict[str, Node], pieces: dict[str, Node], convention: str) -> Choice:
    stage, name, last = config.stages[index], f"stage {index + FIRST_STAGE}", index == len(config.stages) - 1
    own = [whole[name], *([whole["stem"]] if index == 0 else []), *([whole["head"]] if last else [])]
    cost = sum((tally(node, convention).cost for node in own), Cost())
    if last:
        return Choice(stage, cost.macs, cost.params, stage.dim, 0, 0)
    fusion, out = tally(pieces[f"{name} fusion"], convention).cost, config.next_dim(index)
    cost -= fusion
    return Choice(stage, cost.macs, cost.params, stage.dim, fusion.macs // out, fusion.params // out)

"""Receptive fields against the paper's stages, sets of pixels composed one by one, and gradients of the network itself."""

from itertools import groupby

import pytest
import torch
from hypothesis import given
from strategies import configs
from torch import nn

from mpvit.architecture.config import ModelConfig, StageConfig
from mpvit.architecture.variants import VARIANTS
from mpvit.model.network import MPViT, build_model
from mpvit.paths.fields import PathField, path_fields
from mpvit.paths.hooks import stage_branches

FAR = 10**6
"""A position that no edge of an image is near to."""


def by_stage(config: ModelConfig) -> list[list[PathField]]:
    return [list(group) for _, group in groupby(path_fields(config), lambda field: field.stage)]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_published_networks_embed_windows_of_3_and_5_then_3_7_and_11(name: str) -> None:
    stages = by_stage(VARIANTS[name].config)
    assert [[field.embedding_window for field in stage] for stage in stages] == [[3, 5], *[[3, 7, 11]] * 3]
    assert [stage[0].token_stride for stage in stages] == [4, 8, 16, 32]
    assert [field.stage for stage in stages for field in stage] == [2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5]


# ── sets of positions, one convolution after the other ──────────────────────────────────────────────────────────────


def seen(positions: set[int], kernel: int, stride: int) -> set[int]:
    """The inputs, on a line, that a convolution padded by kernel // 2 reads for these outputs."""
    return {position * stride - kernel // 2 + tap for position in positions for tap in range(kernel)}


def seen_by_output(config: ModelConfig, stages: int, positions: set[int]) -> set[int]:
    """The pixels, on a line, that the output of the first ``stages`` stages sees without transformer layers."""
    if not stages:
        return seen(seen(positions, 3, 2), 3, 2)  # the stem
    stage = config.stages[stages - 1]
    branches = [seen_by_path(config, stages - 1, path, positions) for path in range(stage.paths)]
    if stage.local:
        branches.append(seen_by_path(config, stages - 1, 0, seen(positions, 3, 1)))
    return set().union(*branches)


def seen_by_path(config: ModelConfig, stage: int, path: int, positions: set[int]) -> set[int]:
    """The pixels, on a line, that positions of a path's embedding see."""
    stride = 1 if stage == 0 else 2
    if config.stages[stage].patch_embed == "parallel":
        positions = seen(positions, 3 + 2 * path, stride)
    else:
        for _ in range(path):
            positions = seen(positions, 3, 1)
        positions = seen(positions, 3, stride)
    return seen_by_output(config, stage, positions)


@given(configs(most_stages=3))
def test_a_field_is_what_convolutions_reach_one_after_the_other(config: ModelConfig) -> None:
    for field in path_fields(config):
        pixels = seen_by_path(config, field.stage - 2, field.path - 1, {FAR})
        centre = FAR * field.token_stride
        reach = field.receptive_field // 2
        assert (min(pixels), max(pixels)) == (centre - reach, centre + reach)


# ── the network itself ──────────────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
def without_attention(config: ModelConfig) -> MPViT:
    """The network without transformer layers, in which everything is positive: no two influences cancel out."""
    network = build_model(config).double().eval()
    for at in stage_branches(network):
        for path in at.paths:
            path.layers = nn.ModuleList()
    for parameter in network.parameters():
        parameter.abs_().add_(0.01)
    return network


SIDE = 192
"""Pixels: more than any field below."""

NETWORKS = {
    "published": ModelConfig(tuple(StageConfig(paths, 1, 4, 2, 1) for paths in (2, 3, 3))),
    "parallel": ModelConfig(tuple(StageConfig(paths, 1, 4, 2, 1, patch_embed="parallel") for paths in (4, 3))),
    "summed, no branch": ModelConfig(tuple(StageConfig(paths, 1, 4, 2, 1, fusion="sum", local=False) for paths in (1, 2, 2))),
    "one path": ModelConfig(tuple(StageConfig(1, 1, 4, 2, 1) for _ in range(3))),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_field_is_where_the_gradient_of_a_token_is_not_zero(name: str) -> None:
    config = NETWORKS[name]
    network = without_attention(config)
    image = torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64, requires_grad=True)
    for field in path_fields(config):
        x = network.stem(image)
        for stage in network.stages[: field.stage - 2]:
            x = stage(x)
        for path in stage_branches(network)[field.stage - 2].paths[: field.path]:
            embedded, _ = path(x)
            x = embedded if config.stages[0].patch_embed == "series" else x
        token = embedded.shape[-1] // 2
        (gradient,) = torch.autograd.grad(embedded[0, :, token, token].sum(), image)
        rows, columns = gradient[0].sum(0).nonzero().unbind(1)
        centre, reach = token * field.token_stride, field.receptive_field // 2
        assert {(int(rows.min()), int(rows.max())), (int(columns.min()), int(columns.max()))} == {
            (centre - reach, centre + reach)
        }
        assert len(rows) == field.receptive_field**2


@pytest.mark.parametrize("name", NETWORKS)
def test_an_impulse_in_a_stages_input_reaches_a_window_of_tokens(name: str) -> None:
    """One position changes; in which tokens that shows, on all places of the impulse, is the embedding's window."""
    config = NETWORKS[name]
    network = without_attention(config)
    for index, fields in enumerate(by_stage(config)):
        paths = stage_branches(network)[index].paths
        calm = torch.ones(1, config.stages[index].dim, 32, 32, dtype=torch.float64)
        reached: list[set[int]] = [set() for _ in fields]
        for place in range(32):
            x, y = calm.clone(), calm
            x[..., place, 16] += 1
            for path, module in enumerate(paths):
                (struck, _), (still, _) = module(x), module(y)
                token = struck.shape[-2] // 2
                if (struck - still)[0, :, token].abs().sum() > 0:
                    reached[path].add(place)
                x, y = (struck, still) if config.stages[0].patch_embed == "series" else (x, y)
        assert [len(places) for places in reached] == [field.embedding_window for field in fields]

"""Implied maps against attention written as loops, and statistics of maps whose rank and reach are known."""

import math
from dataclasses import replace

import pytest
import torch
from drawn_networks import SMALL, drawn, images

from mpvit.errors import UsageError
from mpvit.model.layers import Attention
from mpvit.paths.attention_maps import distances, head_maps, implied_map, layer_inputs, map_statistics
from mpvit.paths.hooks import record_outputs


def test_factorized_attention_is_its_implied_map_times_the_values() -> None:
    """Of every layer of a network: context = softmax(K)ᵀ·V first, as attention computes it, in loops."""
    network, x = drawn(SMALL), images(1)
    modules = [module.qkv for module in network.modules() if isinstance(module, Attention)]
    with record_outputs(modules) as found, torch.no_grad():
        network(x)
    every = layer_inputs(network, x)
    assert [(each.stage, each.path, each.layer) for each in every] == [
        (stage, path, layer)
        for stage, paths, depth in ((2, 2, 1), (3, 3, 2))
        for path in range(1, paths + 1)
        for layer in range(1, depth + 1)
    ]
    for layer, module in zip(every, modules, strict=True):
        _, heads, tokens, d = layer.query.shape
        weights = implied_map("factorized", layer.query, layer.key, layer.grid)
        projected = found[module][0]  # (n, 3c)
        for head in range(heads):
            query, key, value = (
                [[float(projected[n, part * heads * d + head * d + c]) for c in range(d)] for n in range(tokens)]
                for part in range(3)
            )
            totals = [sum(math.exp(key[m][c]) for m in range(tokens)) for c in range(d)]
            context = [
                [sum(math.exp(key[m][a]) / totals[a] * value[m][b] for m in range(tokens)) for b in range(d)] for a in range(d)
            ]
            for n in (0, tokens // 2, tokens - 1):
                attended = [sum(query[n][a] * context[a][b] for a in range(d)) / d**0.5 for b in range(d)]
                mapped = [sum(float(weights[0, head, n, m]) * value[m][b] for m in range(tokens)) for b in range(d)]
                assert mapped == pytest.approx(attended, abs=1e-10)
                assert float(weights[0, head, n].sum()) == pytest.approx(sum(query[n]) / d**0.5)


def test_full_attentions_map_is_a_softmax_of_products() -> None:
    query, key = torch.randn(2, 1, 1, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = implied_map("softmax", query, key, (2, 3))[0, 0]
    for n in range(6):
        scores = [math.exp(sum(float(query[0, 0, n, c] * key[0, 0, m, c]) for c in range(4)) / 2) for m in range(6)]
        assert weights[n].tolist() == pytest.approx([score / sum(scores) for score in scores])


def test_statistics_of_maps_that_are_known() -> None:
    apart = distances((3, 3), 4)
    assert apart[0].tolist() == pytest.approx([4 * math.hypot(row, column) for row in range(3) for column in range(3)])
    own = map_statistics(torch.eye(9, dtype=torch.float64), apart)
    assert (own.rank, own.distance_px, own.negative_share) == (9, 0, 0)
    assert own.effective_rank == pytest.approx(9)
    uniform = map_statistics(torch.full((9, 9), -1 / 9, dtype=torch.float64), apart)
    assert (uniform.rank, uniform.negative_share) == (1, 1)
    assert uniform.effective_rank == pytest.approx(1)
    assert uniform.distance_px == pytest.approx(float(apart.mean()))
    two = torch.zeros(9, 9, dtype=torch.float64)
    two[0, 1], two[1, 0] = 3, -3  # tokens next to each other
    for row in range(2, 9):
        two[row, row] = 1e-300
    assert map_statistics(two, apart).effective_rank == pytest.approx(2)
    assert map_statistics(two, apart).distance_px == pytest.approx(4 * 2 / 9)


def test_each_head_of_a_network_has_rank_at_most_d_and_full_attention_more() -> None:
    found, left_out = head_maps(drawn(SMALL), [images(2), images(1, seed=5)])
    assert left_out == []
    assert len(found) == 2 * 1 * 2 + 3 * 2 * 2
    for each in found:
        assert each.tokens == {2: 64, 3: 16}[each.stage]
        assert each.head_dim == {2: 2, 3: 4}[each.stage]
        assert each.implied.rank <= each.head_dim < each.full.rank <= each.tokens
        assert 1 <= each.implied.effective_rank <= each.implied.rank + 1e-9
        assert each.full.negative_share == 0
        assert 0 < each.implied.distance_px < 32
        assert each.uniform_distance == pytest.approx(
            float(distances((8, 8) if each.stage == 2 else (4, 4), 2**each.stage).mean())
        )


def test_softmaxs_implied_map_is_the_full_one() -> None:
    found, _ = head_maps(drawn(SMALL.with_attention("softmax")), [images(1)])
    assert all(each.implied == each.full for each in found)


def test_maps_of_too_many_tokens_are_left_out_and_named() -> None:
    found, left_out = head_maps(drawn(SMALL), [images(1, 132)])
    assert left_out == [2]
    assert {(each.stage, each.tokens) for each in found} == {(3, 17 * 17)}


def test_attention_that_is_no_map_is_refused() -> None:
    odd = replace(SMALL, stages=(SMALL.stages[0], replace(SMALL.stages[1], attention="hydra")))
    with pytest.raises(UsageError, match="attention 'hydra' of stage 3 is no map"):
        layer_inputs(drawn(odd), images(1))

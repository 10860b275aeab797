"""Contributions against the fusion's own convolution, silenced branches against a forward pass written by hand."""

import pytest
import torch
from drawn_networks import SMALL, SUMMED, drawn, images
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional

from mpvit.config import ModelConfig
from mpvit.model.network import MPViT
from mpvit.paths.contribution import contributions, silence, summands
from mpvit.paths.inside import LOCAL, kept, opened, silenced, to_fusion
from mpvit.paths.results import Silenced

NETWORKS = pytest.mark.parametrize("config", [SMALL, SUMMED], ids=["concat", "sum"])


@NETWORKS
def test_the_summands_add_up_to_the_fusions_convolution(config: ModelConfig) -> None:
    network = drawn(config)
    for at in opened(network):
        with kept([at.stage.fusion.conv, *(branch.module for branch in at.branches)]) as found, torch.no_grad():
            network(images(2))
            parts = summands(at.stage, [to_fusion(found, branch) for branch in at.branches])
        assert len(parts) == len(at.branches)
        assert torch.allclose(parts.sum(0), found[at.stage.fusion.conv], atol=1e-12)


@NETWORKS
def test_norms_shares_and_cosines_are_those_of_all_summands_at_once(config: ModelConfig) -> None:
    """In batches as in one; the hand-written figures hold all pictures' summands together."""
    network, x = drawn(config), images(7)
    found, _ = contributions(network, [x[:3], x[3:]])
    for at in opened(network):
        with kept(branch.module for branch in at.branches) as held, torch.no_grad():
            network(x)
            parts = summands(at.stage, [to_fusion(held, branch) for branch in at.branches])
        whole = parts.sum(0)
        own = [each for each in found if each.stage == at.number]
        assert [each.branch for each in own] == [branch.name for branch in at.branches]
        for each, part in zip(own, parts, strict=True):
            assert each.norm == pytest.approx(float(part.square().mean().sqrt()))
            assert each.share == pytest.approx(float((part * whole).sum() / (whole * whole).sum()))
            moving, all_moving = part - part.mean(0), whole - whole.mean(0)
            assert each.varying_share == pytest.approx(float((moving * all_moving).sum() / all_moving.square().sum()))
            cosines = [float(functional.cosine_similarity(part.flatten(), other.flatten(), dim=0)) for other in (*parts, whole)]
            assert list(each.cosines.values()) == pytest.approx(cosines)
            assert list(each.cosines) == [branch.name for branch in at.branches] + ["sum"]
        assert sum(each.share for each in own) == pytest.approx(1)
        assert sum(each.varying_share for each in own) == pytest.approx(1)


def by_hand(network: MPViT, x: Tensor, silent: str, mean: Tensor) -> Tensor:
    """The logits where one branch hands its mean to the fusion."""
    x = network.stem(x)
    for at in opened(network):
        maps, first = [], None
        for path in at.paths:
            embedded, encoded = path(x)
            maps.append(encoded)
            first = embedded if first is None else first
            x = embedded
        if at.stage.local is not None:
            maps.insert(0, at.stage.local(first))
        maps = [mean.expand_as(m) if b.label == silent else m for m, b in zip(maps, at.branches, strict=True)]
        joined = torch.cat(maps, 1) if at.stage.config.fusion == "concat" else torch.stack(maps).sum(0)
        x = at.stage.fusion(joined)
    assert network.head is not None
    return network.head(x.mean((2, 3)))


@NETWORKS
@torch.no_grad()
def test_a_silenced_branch_is_a_forward_pass_with_its_mean(config: ModelConfig) -> None:
    network, x = drawn(config), images(6)
    intact = network(x)
    _, means = contributions(network, [x[:4], x[4:]])
    for branch in (branch for at in opened(network) for branch in at.branches):
        with kept([branch.module]) as found:
            network(x)
        held = found[branch.module] if branch.name == LOCAL else found[branch.module][1]
        assert torch.allclose(means[branch.label], held.mean(0))
        with silenced(branch, means[branch.label]):
            without = network(x)
        assert torch.allclose(without, by_hand(network, x, branch.label, means[branch.label]))
        assert not torch.allclose(without, intact)
    assert torch.equal(network(x), intact)


@torch.no_grad()
def test_right_and_wrong_are_counted_picture_by_picture() -> None:
    network, x = drawn(SMALL), images(40)
    answers = network(x).argmax(1)
    targets = torch.where(torch.arange(40) % 2 == 0, answers, (answers + 1) % 5)
    found, means = contributions(network, [x])
    for each in silence(network, found, means, [x[:17], x[17:]], targets.tolist()):
        without = by_hand(network, x, f"stage {each.stage} {each.branch}", means[f"stage {each.stage} {each.branch}"]).argmax(1)
        right = without == targets
        assert each.silenced is not None
        assert (each.silenced.images, each.silenced.intact, each.silenced.correct) == (40, 20, int(right.sum()))
        assert each.silenced.lost == int((~right[::2]).sum())
        assert each.silenced.gained == int(right[1::2].sum())


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_paired_test_is_a_binomial_one_of_one_half(lost: int, gained: int) -> None:
    found = Silenced(images=200, intact=100, lost=lost, gained=gained)
    expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert found.p_value == pytest.approx(expected)
    ends = binomtest(100 - lost + gained, 200).proportion_ci(0.95, method="wilson")
    assert found.interval == pytest.approx((ends.low, ends.high))

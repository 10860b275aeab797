"""Contributions against the fusion's own convolution, silenced branches against a forward pass written by hand."""

import pytest
import torch
from drawn_networks import SMALL, SUMMED, drawn, images
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import Tensor
from torch.nn import functional

from mpvit.architecture.config import ModelConfig
from mpvit.model.network import MPViT
from mpvit.paths.contribution import ablate_branches, contributions, summands
from mpvit.paths.hooks import LOCAL, record_outputs, replace_output, stage_branches
from mpvit.paths.results import BranchAblation

NETWORKS = pytest.mark.parametrize("config", [SMALL, SUMMED], ids=["concat", "sum"])


@NETWORKS
def test_the_summands_add_up_to_the_fusions_convolution(config: ModelConfig) -> None:
    network = drawn(config)
    for at in stage_branches(network):
        with record_outputs([at.stage.fusion.conv, *(branch.module for branch in at.branches)]) as found, torch.no_grad():
            network(images(2))
            parts = summands(at.stage, [branch.output(found) for branch in at.branches])
        assert len(parts) == len(at.branches)
        assert torch.allclose(parts.sum(0), found[at.stage.fusion.conv], atol=1e-12)


@NETWORKS
def test_norms_shares_and_cosines_are_those_of_all_summands_at_once(config: ModelConfig) -> None:
    """In batches as in one; the hand-written figures hold all pictures' summands together."""
    network, x = drawn(config), images(7)
    found, _ = contributions(network, [x[:3], x[3:]])
    for at in stage_branches(network):
        with record_outputs(branch.module for branch in at.branches) as held, torch.no_grad():
            network(x)
            parts = summands(at.stage, [branch.output(held) for branch in at.branches])
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
    for at in stage_branches(network):
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
    for branch in (branch for at in stage_branches(network) for branch in at.branches):
        with record_outputs([branch.module]) as found:
            network(x)
        held = found[branch.module] if branch.name == LOCAL else found[branch.module][1]
        assert torch.allclose(means[branch.label], held.mean(0))
        with replace_output(branch, means[branch.label]):
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
    for each in ablate_branches(network, found, means, [x[:17], x[17:]], targets.tolist()):
        without = by_hand(network, x, f"stage {each.stage} {each.branch}", means[f"stage {each.stage} {each.branch}"]).argmax(1)
        right = without == targets
        assert each.ablation is not None
        assert (each.ablation.images, each.ablation.intact, each.ablation.correct) == (40, 20, int(right.sum()))
        assert each.ablation.lost == int((~right[::2]).sum())
        assert each.ablation.gained == int(right[1::2].sum())


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_paired_test_is_a_binomial_one_of_one_half(lost: int, gained: int) -> None:
    found = BranchAblation(images=200, intact=100, lost=lost, gained=gained)
    expected = binomtest(lost, lost + gained).pvalue if lost + gained else 1.0
    assert found.p_value == pytest.approx(expected)
    ends = binomtest(100 - lost + gained, 200).proportion_ci(0.95, method="wilson")
    assert found.interval == pytest.approx((ends.low, ends.high))

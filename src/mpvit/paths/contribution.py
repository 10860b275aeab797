"""The contribution of each branch to the fusion of its stage, and the accuracy of the network without it.

The convolution of the fusion is 1x1 on the concatenated branches, so it is a sum of one convolution per branch: Σ W_p·x_p.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mpvit.errors import MpvitError
from mpvit.paths.hooks import Branch, record_outputs, replace_output, run, stage_branches
from mpvit.paths.results import BranchAblation, Contribution

if TYPE_CHECKING:
    from mpvit.model.network import MPViT
    from mpvit.model.stages import Stage


def summands(stage: Stage, maps: Sequence[Tensor]) -> Tensor:
    """Map (b, c, h, w) of each branch p -> (branches, b, out, h, w): W_p·x_p, whose sum the fusion's convolution returns."""
    weight = stage.fusion.conv.weight  # (out, joined_dim, 1, 1)
    weights = weight.split(stage.config.dim, dim=1) if stage.config.fusion == "concat" else [weight] * len(maps)
    return torch.stack([functional.conv2d(x, own) for x, own in zip(maps, weights, strict=True)])


@dataclass(slots=True)
class _Sums:
    """Sums over the images of one stage: products of summands (p, p), summands (p, out, h, w), maps (p, c, h, w)."""

    products: Tensor | float = 0.0
    summands: Tensor | float = 0.0
    maps: Tensor | float = 0.0
    images: int = 0

    def add(self, stage: Stage, maps: Sequence[Tensor]) -> None:
        parts = summands(stage, maps).double()
        self.products += torch.einsum("pbchw,qbchw->pq", parts, parts)
        self.summands += parts.sum(1)
        self.maps += torch.stack([each.double().sum(0) for each in maps])
        self.images += len(maps[0])


@torch.inference_mode()
def contributions(model: MPViT, batches: Iterable[Tensor]) -> tuple[list[Contribution], dict[str, Tensor]]:
    """Return the contribution of each branch, and by its label the mean of its output over the images, (c, h, w)."""
    stages = stage_branches(model)
    sums = [_Sums() for _ in stages]
    device = next(model.parameters())
    with record_outputs(branch.module for at in stages for branch in at.branches) as outputs:
        for images in batches:
            run(model, images)
            for at, total in zip(stages, sums, strict=True):
                total.add(at.stage, [branch.output(outputs) for branch in at.branches])
    results: list[Contribution] = []
    means: dict[str, Tensor] = {}
    for at, total in zip(stages, sums, strict=True):
        results += _contributions(at.branches, total)
        averages = torch.as_tensor(total.maps) / total.images
        means |= {branch.label: average.to(device) for branch, average in zip(at.branches, averages, strict=True)}
    return results, means


def _contributions(branches: Sequence[Branch], total: _Sums) -> Iterator[Contribution]:
    products, parts = torch.as_tensor(total.products), torch.as_tensor(total.summands)
    if not products.isfinite().all():
        raise MpvitError("the network computes values that are not finite", hint="its weights may be damaged")
    varying = products - torch.einsum("pchw,qchw->pq", parts, parts) / total.images
    elements = total.images * parts[0].numel()
    norms = products.diagonal().sqrt()
    for p, branch in enumerate(branches):
        cosines = {each.name: _ratio(products[p, q], norms[p] * norms[q]) for q, each in enumerate(branches)}
        cosines["sum"] = _ratio(products[p].sum(), norms[p] * products.sum().sqrt())
        yield Contribution(
            stage=branch.stage,
            branch=branch.name,
            norm=float(norms[p]) / elements**0.5,
            share=_ratio(products[p].sum(), products.sum()),
            varying_share=_ratio(varying[p].sum(), varying.sum()),
            cosines=cosines,
        )


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Return a quotient; 0 if the divisor is 0."""
    return float(part / whole) if whole > 0 else 0.0


@torch.inference_mode()
def ablate_branches(
    model: MPViT, found: Sequence[Contribution], means: dict[str, Tensor], batches: Iterable[Tensor], targets: Sequence[int]
) -> list[Contribution]:
    """Return ``found`` with the accuracy of the network when the output of each branch is replaced by its mean.

    ``targets`` are the classes of the images in the order of ``batches``.
    """
    branches = [branch for at in stage_branches(model) for branch in at.branches]
    correct: list[list[Tensor]] = [[] for _ in range(len(branches) + 1)]
    first = 0
    for images in batches:
        classes = torch.tensor(targets[first : first + len(images)])
        first += len(images)
        correct[0].append(_is_correct(model, images, classes))
        for branch, flags in zip(branches, correct[1:], strict=True):
            with replace_output(branch, means[branch.label]):
                flags.append(_is_correct(model, images, classes))
    intact, *without = (torch.cat(flags) for flags in correct)
    return [replace(each, ablation=_ablation(intact, flags)) for each, flags in zip(found, without, strict=True)]


def _is_correct(model: MPViT, images: Tensor, classes: Tensor) -> Tensor:
    return run(model, images).argmax(1).cpu() == classes


def _ablation(intact: Tensor, without: Tensor) -> BranchAblation:
    lost, gained = int((intact & ~without).sum()), int((~intact & without).sum())
    return BranchAblation(len(intact), int(intact.sum()), lost, gained)

"""What each branch brings to its stage's fusion, and what the network is without it.

The fusion's convolution is 1x1 on the concatenation of its branches, so it is a sum of one convolution a branch: Σ W_p·x_p.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mpvit.errors import MpvitError
from mpvit.paths.inside import kept, opened, show, silenced, to_fusion
from mpvit.paths.results import Contribution, Silenced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mpvit.model.network import MPViT
    from mpvit.model.stages import Stage
    from mpvit.paths.inside import Branch


def summands(stage: Stage, maps: Sequence[Tensor]) -> Tensor:
    """Return W_p·x_p of each branch p: (b, c, h, w) each -> (branches, b, out, h, w); their sum is the convolution's output."""
    weight = stage.fusion.conv.weight  # (out, joined_dim, 1, 1)
    weights = weight.split(stage.config.dim, dim=1) if stage.config.fusion == "concat" else [weight] * len(maps)
    return torch.stack([functional.conv2d(x, own) for x, own in zip(maps, weights, strict=True)])


@dataclass(slots=True)
class _Sums:
    """Of one stage, over pictures: products of summands (p, p), summands (p, out, h, w), and the branches' maps."""

    products: Tensor | float = 0.0
    summands: Tensor | float = 0.0
    maps: Tensor | float = 0.0
    pictures: int = 0

    def add(self, stage: Stage, maps: Sequence[Tensor]) -> None:
        parts = summands(stage, maps).double()
        self.products += torch.einsum("pbchw,qbchw->pq", parts, parts)
        self.summands += parts.sum(1)
        self.maps += torch.stack([each.double().sum(0) for each in maps])
        self.pictures += len(maps[0])


@torch.inference_mode()
def contributions(model: MPViT, batches: Iterable[Tensor]) -> tuple[list[Contribution], dict[str, Tensor]]:
    """Return what each branch brings, and what it hands to the fusion on average over pictures, (c, h, w) by label."""
    stages = opened(model)
    sums = [_Sums() for _ in stages]
    place = next(model.parameters())
    with kept(branch.module for at in stages for branch in at.branches) as found:
        for pictures in batches:
            show(model, pictures)
            for at, total in zip(stages, sums, strict=True):
                total.add(at.stage, [to_fusion(found, branch) for branch in at.branches])
    results: list[Contribution] = []
    means: dict[str, Tensor] = {}
    for at, total in zip(stages, sums, strict=True):
        results += _contributions(at.branches, total)
        averages = torch.as_tensor(total.maps) / total.pictures
        means |= {branch.label: average.to(place) for branch, average in zip(at.branches, averages, strict=True)}
    return results, means


def _contributions(own: Sequence[Branch], total: _Sums) -> Iterator[Contribution]:
    products, parts = torch.as_tensor(total.products), torch.as_tensor(total.summands)
    if not products.isfinite().all():
        raise MpvitError("what the network holds are no numbers", hint="its weights may be damaged")
    varying = products - torch.einsum("pchw,qchw->pq", parts, parts) / total.pictures
    values = total.pictures * parts[0].numel()
    norms = products.diagonal().sqrt()
    whole = products.sum().sqrt()
    for place, branch in enumerate(own):
        cosines = {each.name: _ratio(products[place, q], norms[place] * norms[q]) for q, each in enumerate(own)}
        cosines["sum"] = _ratio(products[place].sum(), norms[place] * whole)
        yield Contribution(
            stage=branch.stage,
            branch=branch.name,
            norm=float(norms[place]) / values**0.5,
            share=_ratio(products[place].sum(), products.sum()),
            varying_share=_ratio(varying[place].sum(), varying.sum()),
            cosines=cosines,
        )


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Return a quotient; 0 where there is nothing to divide."""
    return float(part / whole) if whole > 0 else 0.0


@torch.inference_mode()
def silence(
    model: MPViT, found: Sequence[Contribution], means: dict[str, Tensor], batches: Iterable[Tensor], targets: Sequence[int]
) -> list[Contribution]:
    """Return ``found`` with what the network gets right where a branch hands its mean to the fusion.

    ``targets`` are the pictures' classes in the order of ``batches``.
    """
    every = [branch for at in opened(model) for branch in at.branches]
    right: list[list[Tensor]] = [[] for _ in range(len(every) + 1)]
    first = 0
    for images in batches:
        wanted = torch.tensor(targets[first : first + len(images)])
        first += len(images)
        right[0].append(_right(model, images, wanted))
        for branch, flags in zip(every, right[1:], strict=True):
            with silenced(branch, means[branch.label]):
                flags.append(_right(model, images, wanted))
    intact, *without = (torch.cat(flags) for flags in right)
    return [
        replace(
            each, silenced=Silenced(len(intact), int(intact.sum()), int((intact & ~flags).sum()), int((~intact & flags).sum()))
        )
        for each, flags in zip(found, without, strict=True)
    ]


def _right(model: MPViT, images: Tensor, wanted: Tensor) -> Tensor:
    return show(model, images).argmax(1).cpu() == wanted

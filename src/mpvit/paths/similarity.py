"""How alike branches and stages see pictures: linear centred kernel alignment (CKA), in minibatches.

Sources: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019 (arXiv:1905.00414), equations 3
and 4; the unbiased estimator of HSIC is Song et al., JMLR 13 (2012), equation 5; its mean over minibatches before the quotient
is Nguyen, Raghu and Kornblith, ICLR 2021 (arXiv:2010.15327), equations 2 and 3. A picture is an example; all channels at all
positions are its features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpvit.errors import MpvitError, UsageError
from mpvit.paths.inside import kept, opened, show, to_fusion
from mpvit.paths.results import Similarity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mpvit.model.network import MPViT

FEWEST = 4
"""Pictures of a minibatch: the unbiased estimator divides by n - 3."""


def similarities(model: MPViT, batches: Iterable[Tensor]) -> Similarity:
    """Return the CKA of all pairs of branches' outputs and stages' outputs; a batch, (b, c, h, w), is a minibatch.

    Raises ``UsageError`` for a batch of fewer than 4 pictures, ``MpvitError`` for what are no numbers.
    """
    stages = opened(model)
    names = [
        name for stage in stages for name in (*(branch.label for branch in stage.branches), f"stage {stage.number} output")
    ]
    pictures = 0
    total = torch.zeros(len(names), len(names), dtype=torch.float64)
    with kept(module for at in stages for module in (at.stage, *(branch.module for branch in at.branches))) as found:
        for images in batches:
            with torch.inference_mode():
                show(model, images)
            seen = [x for at in stages for x in (*(to_fusion(found, each) for each in at.branches), found[at.stage])]
            total += unbiased_hsic(torch.stack([gram(x) for x in seen])).cpu()
            pictures += len(images)
    if not total.isfinite().all():
        raise MpvitError("what the network holds are no numbers", hint="its weights may be damaged")
    return Similarity(tuple(names), tuple(map(tuple, aligned(total))), pictures)


def gram(features: Tensor) -> Tensor:
    """Return the inner products of a batch's examples, their mean taken off first: (b, ...) -> (b, b) in float64."""
    flat = features.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat @ flat.T


def unbiased_hsic(grams: Tensor) -> Tensor:
    """Return the unbiased HSIC of each pair of ``grams``: (r, n, n) -> (r, r)."""
    n = grams.shape[-1]
    if n < FEWEST:
        raise UsageError(f"similarity of {n} pictures at a time: must be at least {FEWEST}")
    hollow = grams - torch.diag_embed(grams.diagonal(dim1=-2, dim2=-1))
    rows = hollow.sum(-1)  # (r, n)
    sums = rows.sum(-1)  # (r,)
    products = torch.einsum("inm,jnm->ij", hollow, hollow)
    apart = torch.outer(sums, sums) / ((n - 1) * (n - 2))
    return (products + apart - 2 / (n - 2) * rows @ rows.T) / (n * (n - 3))


def aligned(hsic: Tensor) -> list[list[float | None]]:
    """Return HSIC(x, y) / √(HSIC(x, x)·HSIC(y, y)) of each pair; None where one does not vary."""
    own = hsic.diagonal()
    scales = torch.outer(own.clamp(min=0), own.clamp(min=0)).sqrt()
    return [
        [float(hsic[i, j] / scales[i, j]) if scales[i, j] > 0 else None for j in range(len(hsic))] for i in range(len(hsic))
    ]

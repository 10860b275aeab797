"""Similarity of branches and stages: linear centred kernel alignment (CKA), in minibatches.

Sources: Kornblith et al., "Similarity of Neural Network Representations Revisited", ICML 2019 (arXiv:1905.00414), equations 3
and 4; unbiased estimator of HSIC: Song et al., JMLR 13 (2012), equation 5; mean over minibatches before the quotient: Nguyen,
Raghu and Kornblith, ICLR 2021 (arXiv:2010.15327), equations 2 and 3. An image is an example; its features are all channels at
all positions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mpvit.errors import MpvitError, UsageError
from mpvit.paths.hooks import record_outputs, run, stage_branches
from mpvit.paths.results import Similarity

if TYPE_CHECKING:
    from mpvit.model.network import MPViT

MIN_BATCH = 4
"""Minimum number of images in a batch: the unbiased estimator divides by n - 3."""


def similarities(model: MPViT, batches: Iterable[Tensor]) -> Similarity:
    """Return the CKA of all pairs of the outputs of branches and stages; a batch, (b, c, h, w), is a minibatch.

    Raises ``UsageError`` for a batch of fewer than 4 images, and ``MpvitError`` for values that are not finite.
    """
    stages, names = stage_branches(model), []
    for at in stages:
        names += [*(branch.label for branch in at.branches), f"stage {at.number} output"]
    number = 0
    total = torch.zeros(len(names), len(names), dtype=torch.float64)
    with record_outputs(module for at in stages for module in (at.stage, *(b.module for b in at.branches))) as outputs:
        for images in batches:
            with torch.inference_mode():
                run(model, images)
            maps = [x for at in stages for x in (*(branch.output(outputs) for branch in at.branches), outputs[at.stage])]
            total += unbiased_hsic(torch.stack([gram(x) for x in maps])).cpu()
            number += len(images)
    if not total.isfinite().all():
        raise MpvitError("the network computes values that are not finite", hint="its weights may be damaged")
    return Similarity(tuple(names), tuple(map(tuple, aligned(total))), number)


def gram(features: Tensor) -> Tensor:
    """Map (b, ...) -> (b, b) in float64: the inner products of the examples after their mean is subtracted."""
    flat = features.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat @ flat.T


def unbiased_hsic(grams: Tensor) -> Tensor:
    """Map (r, n, n) -> (r, r): the unbiased HSIC of each pair of Gram matrices."""
    n = grams.shape[-1]
    if n < MIN_BATCH:
        raise UsageError(f"similarity of {n} images at a time: must be at least {MIN_BATCH}")
    hollow = grams - torch.diag_embed(grams.diagonal(dim1=-2, dim2=-1))
    rows = hollow.sum(-1)  # (r, n)
    sums = rows.sum(-1)  # (r,)
    products = torch.einsum("inm,jnm->ij", hollow, hollow)
    independent = torch.outer(sums, sums) / ((n - 1) * (n - 2))
    return (products + independent - 2 / (n - 2) * rows @ rows.T) / (n * (n - 3))


def aligned(hsic: Tensor) -> list[list[float | None]]:
    """Map (r, r) -> r lists of r: HSIC(x, y) / √(HSIC(x, x)·HSIC(y, y)); None if one of them does not vary."""
    own = hsic.diagonal().clamp(min=0)
    scales = torch.outer(own, own).sqrt()
    quotients = zip(hsic.tolist(), scales.tolist(), strict=True)
    return [[value / scale if scale > 0 else None for value, scale in zip(*rows, strict=True)] for rows in quotients]

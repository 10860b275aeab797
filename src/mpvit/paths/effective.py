"""Effective receptive fields: the distribution of the gradients of a token over the image.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016
(arXiv:1701.04128), section 2. The energy of a pixel is the sum of the squared derivatives of all channels of the token by all
channels of the pixel. One backward pass with random signs of the channels of the token estimates it without bias (Hutchinson,
Communications in Statistics 19, 1990): products of the derivatives of two channels have mean 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mpvit.errors import MpvitError
from mpvit.paths.fields import PathField, path_fields
from mpvit.paths.hooks import record_outputs, run, stage_branches
from mpvit.paths.results import EffectiveField
from mpvit.training import seed_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mpvit.model.network import MPViT


def effective_fields(model: MPViT, batches: Iterable[Tensor]) -> list[EffectiveField]:
    """Return the effective field of the centre token of each path, over all images of ``batches``, (b, c, h, w) each.

    Raises ``MpvitError`` if no gradient reaches the image, or one is not finite.
    """
    fields = path_fields(model.config)
    paths = [path for at in stage_branches(model) for path in at.paths]
    signs = torch.Generator().manual_seed(seed_of("signs"))
    sums: list[list[Tensor]] = [[], []]  # of the embeddings, and of the outputs
    for batch in batches:
        images = batch.to(next(model.parameters())).requires_grad_()
        with record_outputs(paths) as outputs, torch.enable_grad():
            run(model, images)
        for index, total in enumerate(sums):
            energies = [energy(centre(outputs[path][index]), images, signs).sum(0).double().cpu() for path in paths]
            total[:] = [old + new for old, new in zip(total, energies, strict=True)] if total else energies
    return [
        _effective_field(field, tuple(outputs[path][0].shape[2:]), embedded.numpy(), encoded.numpy())
        for field, path, embedded, encoded in zip(fields, paths, *sums, strict=True)
    ]


def centre(tokens: Tensor) -> Tensor:
    """Return the token in the middle of a map, or after the middle if the side is even: (b, c, h, w) -> (b, c)."""
    return tokens[:, :, tokens.shape[2] // 2, tokens.shape[3] // 2]


def energy(token: Tensor, images: Tensor, signs: torch.Generator) -> Tensor:
    """Map a token (b, c) that was computed from images (b, 3, h, w) -> (b, h, w): the energy of each pixel."""
    random_signs = torch.randint(0, 2, token.shape, generator=signs).mul(2).sub(1).to(token)
    (gradient,) = torch.autograd.grad(token, images, random_signs, retain_graph=True)
    return gradient.square().sum(1)


def _effective_field(
    field: PathField, grid: tuple[int, ...], embedded: NDArray[np.float64], encoded: NDArray[np.float64]
) -> EffectiveField:
    row, column = (length // 2 * field.token_stride for length in grid)
    before, after = _shares(embedded), _shares(encoded)
    reach = field.receptive_field // 2
    square = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    return EffectiveField(
        field=field,
        token=(column, row),
        embedded=before,
        encoded=after,
        radius=radius(before, row, column),
        output_radius=radius(after, row, column),
        inside=float(before[square].sum()),
    )


def _shares(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    total = energies.sum()
    if not np.isfinite(total) or total <= 0:
        raise MpvitError("no gradient of a token reaches the image, or it is not finite", hint="the weights may be damaged")
    return energies / total


def radius(shares: NDArray[np.float64], row: int, column: int, part: float = 0.5) -> float:
    """Return the radius of the smallest disc around a pixel whose pixel centres hold ``part`` of ``shares``, (h, w)."""
    down, across = np.indices(shares.shape)
    distances = np.hypot(down - row, across - column).ravel()
    order = distances.argsort(kind="stable")
    reached = np.searchsorted(shares.ravel()[order].cumsum(), part * shares.sum())
    return float(distances[order][min(reached, len(order) - 1)])

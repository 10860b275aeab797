"""Effective receptive fields: where in the image gradients of a token really are.

Source: Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016
(arXiv:1701.04128), section 2. The energy of a pixel is the sum of the squared derivatives of all channels of the token by all
channels of the pixel. With a random sign on each channel of the token one backward pass gives it without bias (Hutchinson,
Communications in Statistics 19, 1990): products of two channels have mean 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mpvit.errors import MpvitError
from mpvit.paths.fields import path_fields
from mpvit.paths.inside import kept, opened, show
from mpvit.paths.results import Effective
from mpvit.training import seed_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mpvit.model.network import MPViT
    from mpvit.paths.fields import PathField


def effective_fields(model: MPViT, batches: Iterable[Tensor]) -> list[Effective]:
    """Return the effective field of each path's centre token, over all pictures of ``batches``, (b, c, h, w) each.

    Raises ``MpvitError`` where no gradient reaches the image, or one is no number.
    """
    fields = path_fields(model.config)
    paths = [path for at in opened(model) for path in at.paths]
    signs = torch.Generator().manual_seed(seed_of("signs"))
    sums: list[list[Tensor]] = [[], []]
    for pictures in batches:
        images = pictures.to(next(model.parameters())).requires_grad_()
        with kept(paths) as found, torch.enable_grad():
            show(model, images)
        for behind, total in enumerate(sums):
            each = [energy(centre(found[path][behind]), images, signs).sum(0).double().cpu() for path in paths]
            total[:] = [old + new for old, new in zip(total, each, strict=True)] if total else each
    return [
        _effective(field, tuple(found[path][0].shape[2:]), before.numpy(), behind.numpy())
        for field, path, before, behind in zip(fields, paths, *sums, strict=True)
    ]


def centre(tokens: Tensor) -> Tensor:
    """Return the token in the middle of a map, or the first behind it: (b, c, h, w) -> (b, c)."""
    return tokens[:, :, tokens.shape[2] // 2, tokens.shape[3] // 2]


def energy(token: Tensor, images: Tensor, signs: torch.Generator) -> Tensor:
    """Return each pixel's share in the energy of ``token``, (b, c) computed of ``images``: (b, 3, h, w) -> (b, h, w)."""
    drawn = torch.randint(0, 2, token.shape, generator=signs).mul(2).sub(1).to(token)
    (gradient,) = torch.autograd.grad(token, images, drawn, retain_graph=True)
    return gradient.square().sum(1)


def _effective(
    field: PathField, grid: tuple[int, ...], embedded: NDArray[np.float64], encoded: NDArray[np.float64]
) -> Effective:
    row, column = (length // 2 * field.token_stride for length in grid)
    before, behind = _shares(embedded), _shares(encoded)
    reach = field.receptive_field // 2
    square = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    return Effective(
        field,
        (column, row),
        before,
        behind,
        radius(before, row, column),
        radius(behind, row, column),
        float(before[square].sum()),
    )


def _shares(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    total = energies.sum()
    if not np.isfinite(total) or total <= 0:
        raise MpvitError("no gradient of a token reaches the image, or it is no number", hint="the weights may be damaged")
    return energies / total


def radius(shares: NDArray[np.float64], row: int, column: int, part: float = 0.5) -> float:
    """Return the radius of the smallest disc around a pixel whose pixels' centres hold ``part`` of ``shares``, (h, w)."""
    down, across = np.indices(shares.shape)
    distances = np.hypot(down - row, across - column).ravel()
    order = distances.argsort(kind="stable")
    reached = np.searchsorted(shares.ravel()[order].cumsum(), part * shares.sum())
    return float(distances[order][min(reached, len(order) - 1)])

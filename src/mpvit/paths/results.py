"""Results of the views of paths, as frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import comb
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.training.metrics import Interval, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mpvit.paths.fields import PathField


@dataclass(frozen=True, slots=True, eq=False)
class EffectiveField:
    """Distribution over the pixels of the squared gradients of a path's centre token.

    Attributes:
        field: receptive field before attention, in closed form.
        token: (x, y) of the centre of the token, in pixels.
        embedded: (height, width), for the embedding of the path; sums to 1.
        encoded: (height, width), for the output of the path; sums to 1.
        radius: radius in pixels of the smallest disc around the token that holds half of ``embedded``.
        output_radius: the same for ``encoded``.
        inside: share of ``embedded`` inside the receptive field; the rest came through attention in earlier stages.
    """

    field: PathField
    token: tuple[int, int]
    embedded: NDArray[np.float64]
    encoded: NDArray[np.float64]
    radius: float
    output_radius: float
    inside: float

    def as_row(self) -> dict[str, Any]:
        """Return it as one flat row for JSON and CSV."""
        return self.field.as_row() | {
            "effective_radius": self.radius,
            "output_effective_radius": self.output_radius,
            "energy_inside_field": self.inside,
            "image_size": list(self.embedded.shape),
        }


class BranchAblation(NamedTuple):
    """Number of images, and of those that the ``intact`` network classifies correctly.

    ``lost`` images are correct only with the branch, ``gained`` images only if its output is replaced by its mean.
    """

    images: int
    intact: int
    lost: int
    gained: int

    @property
    def correct(self) -> int:
        """Number of images that are correct without the branch."""
        return self.intact - self.lost + self.gained

    @property
    def interval(self) -> Interval:
        """Confidence interval of the share of ``correct``."""
        return wilson(self.correct, self.images)

    @property
    def p_value(self) -> float:
        """Probability, if the branch had no effect, of a split of ``lost`` and ``gained`` that is at least as uneven.

        McNemar's test, exact and two-sided (McNemar, Psychometrika 12, 1947): a binomial test of one half.
        """
        differing = self.lost + self.gained
        tail = sum(comb(differing, each) for each in range(min(self.lost, self.gained) + 1))
        return min(2 * tail / 2**differing, 1.0)

    def as_row(self) -> dict[str, Any]:
        """Return it as columns of a flat row."""
        low, high = self.interval
        return {
            "images": self.images,
            "intact_top1": self.intact / self.images,
            "silenced_top1": self.correct / self.images,
            "silenced_top1_low": low,
            "silenced_top1_high": high,
            "lost": self.lost,
            "gained": self.gained,
            "p_value": self.p_value,
        }


@dataclass(frozen=True, slots=True)
class Contribution:
    """Contribution of a branch p to the fusion of its stage, whose output is the sum z = Σ W_p·x_p over the branches.

    Attributes:
        stage: number of the stage in the paper.
        branch: ``local`` or ``path 1``, ``path 2``, ...
        norm: root mean square of W_p·x_p over images, channels and positions.
        share: ⟨W_p·x_p, z⟩ / ⟨z, z⟩; the shares of the branches sum to 1, and one may be negative.
        varying_share: the same after the mean over images is subtracted from each W_p·x_p.
        cosines: cosine of W_p·x_p with that of each branch and with their ``sum``, over all images.
        ablation: accuracy without the branch; None if it was not measured.
    """

    stage: int
    branch: str
    norm: float
    share: float
    varying_share: float
    cosines: dict[str, float]
    ablation: BranchAblation | None = None

    def as_row(self) -> dict[str, Any]:
        """Return it as one flat row for JSON and CSV."""
        row = asdict(self)
        del row["ablation"]
        return row | (self.ablation.as_row() if self.ablation else {})


@dataclass(frozen=True, slots=True)
class Similarity:
    """Linear CKA of each pair of the representations ``names``; None if one of the pair is the same for all images."""

    names: tuple[str, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    images: int


class MapStatistics(NamedTuple):
    """Statistics of the map of a head, as means over images.

    Attributes:
        rank: largest rank over the images, in the precision of float64.
        effective_rank: exponential of the entropy of the shares of the singular values (Roy and Vetterli, EUSIPCO 2007).
        distance_px: distance in pixels from a token to those that it attends to, weighted by the absolute values of the map.
        negative_share: share of the negative entries.
    """

    rank: int
    effective_rank: float
    distance_px: float
    negative_share: float


class TokenAttention(NamedTuple):
    """Attention of one token, at (x, y) in the grid, in one head of the last layer of a path.

    ``implied`` are the weights of all tokens, (h, w), in the map of the network, and ``full`` those in full softmax attention
    of the same queries and keys. ``stride`` is the distance between neighbouring tokens, in pixels.
    """

    stage: int
    path: int
    head: int
    stride: int
    token: tuple[int, int]
    implied: NDArray[np.float64]
    full: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeadMap:
    """Statistics of the map that the network implies in one head, and of ``full`` softmax attention of the same Q and K.

    Stages count as in the paper, paths, layers and heads from 1. ``uniform_distance`` is the mean distance in pixels between
    two tokens, each to itself included.
    """

    stage: int
    path: int
    layer: int
    head: int
    tokens: int
    head_dim: int
    implied: MapStatistics
    full: MapStatistics
    uniform_distance: float

    def as_row(self) -> dict[str, Any]:
        """Return it as one flat row for JSON and CSV."""
        row = asdict(self)
        for name in ("implied", "full", "uniform_distance"):
            del row[name]
        full = {f"full_{name}": value for name, value in self.full._asdict().items()}
        return row | self.implied._asdict() | full | {"uniform_distance_px": self.uniform_distance}

"""What was found out about paths, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Any, NamedTuple

from mpvit.training.metrics import Interval, wilson

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mpvit.paths.fields import PathField


@dataclass(frozen=True, slots=True, eq=False)
class Effective:
    """Where in the image the squared gradients of a path's centre token are, before and behind its transformer layers.

    Attributes:
        field: what the token sees before attention, in closed form.
        token: (x, y) of the token's centre in pixels.
        embedded: (height, width), of the path's embedding; sums to 1.
        encoded: (height, width), of the path's output; sums to 1.
        radius: in pixels, of the smallest disc around the token that holds half of ``embedded``.
        output_radius: likewise of ``encoded``.
        inside: share of ``embedded`` within the receptive field: the rest came through attention in earlier stages.
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


class Silenced(NamedTuple):
    """What a network gets right without a branch, picture by picture beside the intact network.

    ``lost`` are right only with the branch, ``gained`` only without it.
    """

    images: int
    intact: int
    lost: int
    gained: int

    @property
    def correct(self) -> int:
        """Pictures that are right without the branch."""
        return self.intact - self.lost + self.gained

    @property
    def interval(self) -> Interval:
        """Of their share."""
        return wilson(self.correct, self.images)

    @property
    def p_value(self) -> float:
        """How likely so uneven a split of ``lost`` and ``gained`` is by chance.

        McNemar's test, exact and two-sided (McNemar, Psychometrika 12, 1947): a binomial test of one half.
        """
        odd = self.lost + self.gained
        tail = sum(comb(odd, each) for each in range(min(self.lost, self.gained) + 1))
        return min(2 * tail / 2**odd, 1.0)

    def as_row(self) -> dict[str, Any]:
        """Return it as the fields of a flat row."""
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
    """What a branch brings to its stage's fusion, the sum of W_p·x_p over the branches p.

    Attributes:
        stage: the paper's number.
        branch: ``local`` or ``path 1``, ``path 2``, ...
        norm: root mean square of W_p·x_p over pictures, channels and positions.
        share: of the sum z = ΣW_p·x_p what p brings, ⟨W_p·x_p, z⟩ / ⟨z, z⟩: the branches add up to 1, and one may be below 0.
        varying_share: the same of what differs from picture to picture: the mean over pictures taken off first.
        cosines: of W_p·x_p with each branch's and with the ``sum``, over all pictures.
        silenced: the network without it.
    """

    stage: int
    branch: str
    norm: float
    share: float
    varying_share: float
    cosines: dict[str, float]
    silenced: Silenced | None = None

    def as_row(self) -> dict[str, Any]:
        """Return it as one flat row for JSON and CSV."""
        row = {name: getattr(self, name) for name in self.__slots__ if name != "silenced"}
        return row | (self.silenced.as_row() if self.silenced else {})


@dataclass(frozen=True, slots=True)
class Similarity:
    """How alike representations are: ``matrix`` has the linear CKA of each pair of ``names``; None where one never varies."""

    names: tuple[str, ...]
    matrix: tuple[tuple[float | None, ...], ...]
    pictures: int


class MapStatistics(NamedTuple):
    """What a map between tokens is like, mean over pictures.

    Attributes:
        rank: the largest over pictures, to float64's precision.
        effective_rank: the exponential of the entropy of the singular values' shares (Roy and Vetterli, EUSIPCO 2007).
        distance: in pixels, from a token to those it attends to, weighted by the map's absolute values.
        negative: share of the entries below 0.
    """

    rank: int
    effective_rank: float
    distance: float
    negative: float


class Attended(NamedTuple):
    """To which tokens one token attends in one head of a path's last layer, and to which it would in full attention.

    ``token`` is its (x, y) in the grid, whose tokens are ``stride`` pixels apart; ``implied`` and ``full`` are (h, w).
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
    """The map that one head implies, and full softmax attention's of the same queries and keys.

    Attributes:
        stage: the paper's number.
        path: 1 the first; likewise ``layer`` and ``head``.
        layer: of the path.
        head: of the layer.
        tokens: N.
        head_dim: d.
        implied: the network's own.
        full: full softmax attention's.
        uniform_distance: mean distance in pixels of two tokens, a token itself included: of attention to all alike.
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
        own = {name: getattr(self, name) for name in self.__slots__ if name not in ("implied", "full", "uniform_distance")}
        for prefix, found in (("", self.implied), ("full_", self.full)):
            own |= {f"{prefix}rank": found.rank, f"{prefix}effective_rank": found.effective_rank}
            own |= {f"{prefix}distance_px": found.distance, f"{prefix}negative_share": found.negative}
        return own | {"uniform_distance_px": self.uniform_distance}

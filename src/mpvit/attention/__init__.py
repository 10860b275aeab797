"""The attention between tokens: one file a kind, its forward and its cost side by side.

Axes: B batch, h heads, N tokens on an H x W grid, d channels per head, C = h·d channels.
A new kind is one file with a ``KIND`` and one line in ``KINDS``; the network, the counts and the studies pick it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

from mpvit.errors import UsageError, unknown_name
from mpvit.registry import resolve
from mpvit.units import is_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from mpvit.operations import Block, Shape
    from mpvit.operations.strided import Strided
    from mpvit.operations.tape import Tape


class Sizes(NamedTuple):
    """The sizes that an attention runs at; ``option`` is the kind's own number (a rank, a window, ...), 0 if it has none."""

    batch: int
    heads: int
    head_dim: int
    height: int
    width: int
    option: int = 0

    @property
    def tokens(self) -> int:
        """N = H·W."""
        return self.height * self.width

    @property
    def dim(self) -> int:
        """C = h·d."""
        return self.heads * self.head_dim

    @property
    def per_head(self) -> Shape:
        """The shape of queries, keys and values: (B, h, N, d)."""
        return (self.batch, self.heads, self.tokens, self.head_dim)


def _nothing(_: Sizes) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of attention between (B, h, N, d) queries, keys and values.

    Attributes:
        label: the name that people read.
        formula: its multiply-adds for one image, as a formula in N, C, h and d.
        attend: (query, key, value, sizes, learned) -> (B, h, N, d), its scale included.
        cost: the operations of ``attend``; their multiply-adds are the formula.
        record: the steps of ``attend`` on a tape: what autograd keeps of them.
        exponentials: how many exponentials one call takes.
        extra_elements: elements of the largest tensor beside queries, keys, values, their normalised forms and the output.
        learned: makes each further tensor that is learned, by name; drawn from torch's random state.
        buffers: likewise, each further tensor that is not.
        fixed_tokens: whether what is learned serves one N alone.
        option: what the number behind a colon is, as in ``linformer:128``; empty if there is none.
        default: that number where none is given.
    """

    label: str
    formula: str
    attend: Callable[[Tensor, Tensor, Tensor, Sizes, Mapping[str, Tensor]], Tensor]
    cost: Callable[[Sizes], Block]
    record: Callable[[Tape, Strided, Strided, Strided, Sizes], Strided]
    exponentials: Callable[[Sizes], int]
    extra_elements: Callable[[Sizes], int]
    learned: Callable[[Sizes], dict[str, Tensor]] = _nothing
    buffers: Callable[[Sizes], dict[str, Tensor]] = _nothing
    fixed_tokens: bool = False
    option: str = ""
    default: int = 0

    def __reduce__(self) -> tuple[Callable[[str], Kind], tuple[str]]:
        """Copy and pickle by reference: there is one of each kind."""
        return resolve, (next(where for where in KINDS.values() if resolve(where) is self),)


KINDS = {
    "softmax": "mpvit.attention.softmax:KIND",
    "sdpa": "mpvit.attention.sdpa:KIND",
    "factorized": "mpvit.attention.factorized:KIND",
    "factorized_crpe": "mpvit.attention.factorized_crpe:KIND",
    "efficient": "mpvit.attention.efficient:KIND",
    "linear": "mpvit.attention.linear:KIND",
    "cross_covariance": "mpvit.attention.cross_covariance:KIND",
    "hydra": "mpvit.attention.hydra:KIND",
    "linformer": "mpvit.attention.linformer:KIND",
    "performer": "mpvit.attention.performer:KIND",
    "window": "mpvit.attention.window:KIND",
    "spatial_reduction": "mpvit.attention.spatial_reduction:KIND",
}


def get_kind(name: str) -> tuple[Kind, int]:
    """Return the kind and its option that ``name`` asks for: "softmax", "linformer" or "linformer:128".

    Raises ``UsageError`` for an unknown kind, or an option that is no whole number of at least 1.
    """
    base, colon, option = name.partition(":")
    if base not in KINDS:
        raise unknown_name("attention", name, KINDS)
    kind: Kind = resolve(KINDS[base])
    if not colon:
        return kind, kind.default
    if not kind.option:
        raise UsageError(f"attention {name!r}: {base} takes no number", hint=f"write {base}")
    if not is_whole(option, digits=6):
        raise UsageError(f"attention {name!r}: the {kind.option} must be a whole number of at least 1")
    return kind, int(option)


def grid_of(tokens: int) -> tuple[int, int]:
    """Return the most nearly square (height, width) with ``tokens`` positions; 1 x N for a prime N."""
    height = next(side for side in range(isqrt(tokens), 0, -1) if tokens % side == 0)
    return height, tokens // height

"""Kinds of attention between tokens. Each file holds one kind: its forward pass and the record of its operations.

Axes: B images, h heads, N tokens on an H x W grid, d channels per head, C = h·d channels.
A new kind is one file with a ``KIND`` and one line in ``KINDS``; the network, the counts and the studies then have it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

from mpvit.errors import UsageError, unknown_name
from mpvit.imports import resolve
from mpvit.operations import Block, Shape, occurrences
from mpvit.operations.tape import Tape
from mpvit.operations.tensor_spec import TensorSpec, new
from mpvit.units import is_whole

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["KINDS", "Kind", "Sizes", "Tape", "TensorSpec", "Tensors", "get_kind", "grid_of"]

Tensors = Mapping[str, "Tensor"]
"""Parameters and buffers of an attention by name."""


class Sizes(NamedTuple):
    """Sizes of one attention; ``option`` is the number that its kind takes (a rank, a window, ...), 0 if it takes none."""

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
        """Shape of queries, keys and values: (B, h, N, d)."""
        return (self.batch, self.heads, self.tokens, self.head_dim)

    @property
    def windows(self) -> tuple[int, int]:
        """Number of windows of side ``option`` that cover the grid: (rows, columns)."""
        return -(-self.height // self.option), -(-self.width // self.option)

    @property
    def padding(self) -> tuple[int, int]:
        """Positions that are missing to whole windows: (right, below)."""
        rows, columns = self.windows
        return columns * self.option - self.width, rows * self.option - self.height


def _none(_: Sizes) -> Tensors:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of attention between (B, h, N, d) queries, keys and values.

    Attributes:
        label: name in tables and figures.
        formula: multiply-adds for one image, as a formula in N, C, h and d.
        attend: forward pass: (query, key, value, sizes, parameters and buffers by name) -> (B, h, N, d), scaled.
        record: record of the operations of ``attend`` on a tape.
        extra_elements: elements of the largest tensor except queries, keys, values, their normalised forms and the output.
        parameters: function that returns the initial parameters by name; draws from torch's random state.
        buffers: function that returns the buffers by name; draws from torch's random state.
        fixed_tokens: whether the parameters fit only one number of tokens.
        option: meaning of the number after the colon, as in ``linformer:128``; empty if the kind takes none.
        default: default of this number.
    """

    label: str
    formula: str
    attend: Callable[[Tensor, Tensor, Tensor, Sizes, Tensors], Tensor]
    record: Callable[[Tape, TensorSpec, TensorSpec, TensorSpec, Sizes], TensorSpec]
    extra_elements: Callable[[Sizes], int]
    parameters: Callable[[Sizes], Tensors] = _none
    buffers: Callable[[Sizes], Tensors] = _none
    fixed_tokens: bool = False
    option: str = ""
    default: int = 0

    def operations(self, sizes: Sizes) -> Block:
        """Return the operations of one call."""
        tape = Tape()
        query, key, value = (new(sizes.per_head) for _ in range(3))
        self.record(tape, query, key, value, sizes)
        return tape.tree()

    def exponentials(self, sizes: Sizes) -> int:
        """Return the number of exponentials of one call for one image; ``elu`` computes at most one for each element."""
        found = list(occurrences(self.operations(sizes._replace(batch=1))))
        computed = sum(times * each.elements_written for each, times in found if each.kind in ("softmax", "exp", "elu"))
        fused = sum(times * each.macs for each, times in found if each.kind == "sdpa") // (2 * sizes.head_dim)
        return computed + fused

    def __reduce__(self) -> tuple[Callable[[str], Kind], tuple[str]]:
        """Copy and pickle by reference: each kind is one object."""
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
    """Return the kind of a name such as "softmax" or "linformer:128", and the number after the colon or its default.

    Raises ``UsageError`` for an unknown kind, or a number that is not a whole number of at least 1.
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
    """Return the (height, width) of ``tokens`` positions that is closest to a square; 1 x N if N is prime."""
    height = next(side for side in range(isqrt(tokens), 0, -1) if tokens % side == 0)
    return height, tokens // height

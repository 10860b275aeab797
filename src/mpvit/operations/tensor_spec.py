"""Tensors without data: shape, strides and storage. They show which steps of torch copy and which return a view."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

from mpvit.operations import Shape
from mpvit.units import ITEM_BYTES

Layout = tuple[Shape, Shape]
"""Shape and strides of a tensor."""

CACHED_LAYOUTS = 4096
"""Number of layouts that each cache keeps; the layers of a network repeat a few layouts."""

_ITEM_BYTES = {**ITEM_BYTES, "bool": 1}


@dataclass(eq=False, slots=True)
class Storage:
    """Memory that tensors are views of."""

    nbytes: int


@dataclass(eq=False, slots=True)
class Weight(Storage):
    """Storage of a parameter or buffer.

    Attributes:
        name: name in the module that owns it.
        shape: its shape there.
        buffer: whether it is a buffer, which gets no gradient.
        counted: whether an earlier operation has counted its elements as parameters.
    """

    name: str
    shape: Shape
    buffer: bool = False
    counted: bool = False


class TensorSpec(NamedTuple):
    """A view of a storage. Strides are in elements; ``differentiable`` is whether the tensor gets a gradient."""

    shape: Shape
    strides: Shape
    storage: Storage
    dtype: str = "float32"
    differentiable: bool = True

    def permute(self, axes: Sequence[int]) -> "TensorSpec":
        """Return the view with its axes in another order."""
        return self.strided(tuple([self.shape[i] for i in axes]), tuple([self.strides[i] for i in axes]))

    def reshape(self, shape: Shape) -> "TensorSpec":
        """Return the same elements under another shape: a view if the strides allow it, else a copy."""
        return self.strided(shape, _view_strides(self.shape, self.strides, shape))

    def rearrange(self, pattern: str, **lengths: int) -> "TensorSpec":
        """Return the result of ``einops.rearrange``: axes are split, permuted and joined."""
        return self.strided(*_rearranged(self.shape, self.strides, pattern, tuple(lengths.items())))

    def contiguous(self) -> "TensorSpec":
        """Return the tensor itself if it is contiguous, else a copy."""
        return self if _is_contiguous(self.shape, self.strides) else new(self.shape, self.dtype)

    def unbind(self) -> "list[TensorSpec]":
        """Return the views along the first axis."""
        return [self.strided(self.shape[1:], self.strides[1:])] * self.shape[0]

    def narrow(self, shape: Shape) -> "TensorSpec":
        """Return the view of a part of the tensor, for example of some channels."""
        return self.strided(shape, self.strides)

    def expand(self, shape: Shape) -> "TensorSpec":
        """Return the view that repeats axes of length 1."""
        strides = [0 if old < now else stride for old, now, stride in zip(self.shape, shape, self.strides, strict=True)]
        return self.strided(shape, tuple(strides))

    def strided(self, shape: Shape, strides: Shape | None) -> "TensorSpec":
        """Return the view with this shape and these strides; a copy if there are no strides."""
        if strides is None:
            return new(shape, self.dtype, differentiable=self.differentiable)
        return TensorSpec(shape, strides, self.storage, self.dtype, self.differentiable)


def new(shape: Shape, dtype: str = "float32", *, differentiable: bool = True) -> TensorSpec:
    """Return a contiguous tensor with its own storage."""
    return TensorSpec(shape, _dense_strides(shape), Storage(prod(shape) * _ITEM_BYTES[dtype]), dtype, differentiable)


def constant(*shape: int, dtype: str = "float32") -> TensorSpec:
    """Return an image, a mask or a statistic: a tensor that gets no gradient."""
    return new(shape, dtype, differentiable=False)


def parameter(name: str, *shape: int, buffer: bool = False) -> TensorSpec:
    """Return a parameter or buffer in float32 by its name in the module that owns it."""
    storage = Weight(prod(shape) * _ITEM_BYTES["float32"], name, shape, buffer)
    return TensorSpec(shape, _dense_strides(shape), storage, differentiable=not buffer)


def elementwise(*operands: TensorSpec) -> TensorSpec:
    """Return the result of an elementwise function; its memory layout follows ``at::TensorIterator``."""
    shape, strides = _elementwise_layout(tuple([(x.shape, x.strides) for x in operands]))
    dtype = "float32" if "float32" in [x.dtype for x in operands] else operands[0].dtype
    storage = Storage(prod(shape) * _ITEM_BYTES[dtype])
    return TensorSpec(shape, strides, storage, dtype, any(x.differentiable for x in operands))


@lru_cache(maxsize=CACHED_LAYOUTS)
def _elementwise_layout(operands: tuple[Layout, ...]) -> Layout:
    shape = tuple(max(lengths) for lengths in zip(*(own for own, _ in operands), strict=True))
    if all(own == shape and _is_contiguous(own, strides) for own, strides in operands):
        return shape, _dense_strides(shape)
    first = operands[0][1]
    if all(layout == (shape, first) for layout in operands) and _is_dense(shape, first):
        return shape, first
    return shape, _dense_strides(shape, _order(shape, operands))


def _order(shape: Shape, operands: Sequence[Layout]) -> tuple[int, ...]:
    """Return the axes, fastest first, as ``TensorIteratorBase::reorder_dimensions``: an insertion sort by strides."""
    order = list(reversed(range(len(shape))))
    for start in range(1, len(order)):
        moving = start
        for place in range(start - 1, -1, -1):
            sign = _slower(order[place], order[moving], shape, operands)
            if sign > 0:
                order[place], order[moving] = order[moving], order[place]
                moving = place
            elif sign < 0:
                break
    return tuple(order)


def _slower(axis: int, other: int, shape: Shape, operands: Sequence[Layout]) -> int:
    for own, strides in operands:
        a, b = (0 if own[i] == 1 != shape[i] else strides[i] for i in (axis, other))
        if a == 0 or b == 0:
            continue
        if a != b:
            return 1 if a > b else -1
        if shape[axis] > shape[other]:
            return 1
    return 0


@lru_cache(maxsize=CACHED_LAYOUTS)
def _dense_strides(shape: Shape, order: tuple[int, ...] | None = None) -> Shape:
    """Return the strides without gaps for axes in ``order``, fastest first; by default the last axis is the fastest."""
    strides, step = [0] * len(shape), 1
    for axis in reversed(range(len(shape))) if order is None else order:
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def _is_contiguous(shape: Shape, strides: Shape) -> bool:
    return all(n == 1 or a == b for n, a, b in zip(shape, strides, _dense_strides(shape), strict=True))


def _is_dense(shape: Shape, strides: Shape) -> bool:
    """Return whether a tensor fills its memory without gaps or overlap, in any order of its axes."""
    expected = 1
    for stride, length in sorted(zip(strides, shape, strict=True)):
        if length != 1:
            if stride != expected:
                return False
            expected *= length
    return True


@lru_cache(maxsize=CACHED_LAYOUTS)
def _view_strides(own: Shape, own_strides: Shape, shape: Shape) -> Shape | None:
    """Return the strides of the view of another ``shape``, None if only a copy can have it: ``at::detail::computeStride``."""
    strides = [1] * len(shape)
    axis, base, length = len(shape) - 1, own_strides[-1] if own_strides else 1, 1
    covered = 1
    for old in reversed(range(len(own))):
        length *= own[old]
        if old and (own[old - 1] == 1 or own_strides[old - 1] == length * base):
            continue
        while axis >= 0 and (covered < length or shape[axis] == 1):
            strides[axis] = covered * base
            covered *= shape[axis]
            axis -= 1
        if covered != length:
            return None
        if old:
            base, length, covered = own_strides[old - 1], 1, 1
    return tuple(strides) if axis == -1 else None


@lru_cache(maxsize=CACHED_LAYOUTS)
def _rearranged(shape: Shape, strides: Shape, pattern: str, lengths: tuple[tuple[str, int], ...]) -> tuple[Shape, Shape | None]:
    """Return the shape and strides of a rearranged tensor; the strides are None if it is a copy."""
    given, order, joined = _parsed(pattern)
    known = dict(lengths)
    for group, length in zip(given, shape, strict=True):
        rest = length // prod(known.get(name, 1) for name in group)
        known |= {name: rest for name in group if name not in known}
    split = tuple(known[name] for group in given for name in group)
    at = _view_strides(shape, strides, split)
    assert at is not None, "an axis that is split is a view"  # noqa: S101 - an internal invariant
    out = tuple(prod(known[name] for name in group) for group in joined)
    return out, _view_strides(tuple(split[i] for i in order), tuple(at[i] for i in order), out)


_Groups = tuple[tuple[str, ...], ...]


@lru_cache(maxsize=64)
def _parsed(pattern: str) -> tuple[_Groups, tuple[int, ...], _Groups]:
    """Return the groups of axes on the left, the left position of each axis on the right, and the groups on the right."""
    left, right = (_groups(side) for side in pattern.split("->"))
    places = [name for group in left for name in group]
    return left, tuple(places.index(name) for group in right for name in group), right


def _groups(side: str) -> _Groups:
    groups: list[tuple[str, ...]] = []
    for index, part in enumerate(side.replace(")", "(").split("(")):
        words = part.split()
        groups += [tuple(words)] if index % 2 else [(word,) for word in words]
    return tuple(groups)

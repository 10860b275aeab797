"""The arguments and tensors of a call, in the order of the function's parameters, however the code writes the call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpvit.operations import Shape

_LINEAR = ("input", "weight", "bias")
_CONVOLUTION = (*_LINEAR, "stride", "padding", "dilation")
_SECOND = ("other", "mat2", "vec", "tensor", "tensor2", "vec2")

_PARAMETERS: dict[str, tuple[str, ...]] = {
    **{f"conv{axes}d": _CONVOLUTION for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": _LINEAR for axes in (1, 2, 3)},
    "linear": _LINEAR,
    "bilinear": ("input1", "input2", "weight", "bias"),
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot", "vdot", "inner", "outer", "ger"), ("input", *_SECOND)),
    "vecdot": ("x", "y"),
    "linalg_vecdot": ("x", "y"),
    "linalg_matmul": ("input", "other"),
    "addmm": ("input", "mat1", "mat2"),
    "addmv": ("input", "mat", "vec"),
    "addr": ("input", "vec1", "vec2"),
    **dict.fromkeys(("baddbmm", "addbmm"), ("input", "batch1", "batch2")),
    "scaled_dot_product_attention": ("query", "key", "value", "attn_mask"),
}
"""Parameters of the builtin functions that multiply: Python cannot read their signatures."""


def in_order(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:  # noqa: ANN401
    """Return the values of a call's arguments in the order of the parameters, without an ``out``."""
    given = {name: value for name, value in kwargs.items() if name != "out"}
    if not given:
        return list(args)
    names = _parameters(function)
    return [*args, *(given.pop(name) for name in names if name in given), *given.values()]


def _parameters(function: Any) -> Sequence[str]:  # noqa: ANN401
    if isinstance(function, FunctionType):
        return tuple(inspect.signature(function).parameters)
    return _PARAMETERS.get(getattr(function, "__name__", ""), ())


def argument(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], place: int) -> Any:  # noqa: ANN401
    """Return the value of the parameter at position ``place``; None if it is not given."""
    if place < len(args):
        return args[place]
    names = _parameters(function)
    return kwargs.get(names[place]) if place < len(names) else None


def tensors_in(values: Any, *, integers: bool = False) -> list[Tensor]:  # noqa: ANN401
    """Return the real and complex tensors among ``values``, however nested: indices and masks are no activations.

    With ``integers``, return the integer tensors if there are no others: products of these count too.
    """
    found = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
    return [leaf for leaf in found if leaf.is_floating_point() or leaf.is_complex()] or (found if integers else [])


def shapes_in(values: Any) -> tuple[Shape, ...]:  # noqa: ANN401
    """Return the shapes of all tensors among ``values``, however nested."""
    return tuple(shape_of(leaf) for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def results_in(output: Any) -> list[Tensor]:  # noqa: ANN401 - whatever a network returns
    """Return the tensors in the output of a network, also in dataclasses and mappings that torch does not look into."""
    found: list[Tensor] = []
    for leaf in tree_leaves(output):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):
            found += results_in(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found += results_in([getattr(leaf, each.name) for each in fields(leaf)])
    return found


def shape_of(tensor: Tensor) -> Shape:
    """Return the shape of ``tensor`` as a plain tuple."""
    return tuple(tensor.shape)

"""The arguments and tensors of a call, in the order of the function's parameters, however the code writes the call."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any

from torch import Tensor
from torch.overrides import get_testing_overrides
from torch.utils._pytree import tree_leaves

from mpvit.operations import Shape

_SIGNATURES = get_testing_overrides()
"""A function with the same parameters for each function of torch: Python cannot read the signatures of builtin ones."""


def in_order(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:  # noqa: ANN401
    """Return the values of a call's arguments in the order of the parameters, without an ``out``."""
    given = {name: value for name, value in kwargs.items() if name != "out"}
    if not given:
        return list(args)
    names = _parameters(function)
    return [*args, *(given.pop(name) for name in names if name in given), *given.values()]


def by_name(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """Return the values of a call's arguments by the names of the parameters."""
    return {**dict(zip(_parameters(function), args, strict=False)), **kwargs}


def _parameters(function: Any) -> Sequence[str]:  # noqa: ANN401
    known = function if isinstance(function, FunctionType) else _SIGNATURES.get(function)
    return tuple(inspect.signature(known).parameters) if known else ()


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

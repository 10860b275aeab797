"""Properties of a call of a torch function: its operator, how the code writes it, and whether it computes."""

import dis
from collections.abc import Mapping, Sequence
from types import FrameType, FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend
from torch.utils._pytree import tree_map_only

from mpvit.trace.function_patches import ORIGINAL, REPLACEMENT

_LAYOUT = frozenset({
    "reshape", "reshape_as", "view", "view_as", "flatten", "unflatten", "contiguous", "clone", "detach", "to", "type",
    "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "repeat", "permute", "transpose", "movedim", "squeeze",
    "unsqueeze", "expand", "expand_as", "unbind", "split", "chunk", "narrow", "roll", "flip",
})  # fmt: skip
"""Operators that copy at most. A trace leaves them out: what they move depends on the memory format."""

_FACTORIES = ("empty", "zeros", "ones", "full", "new_", "rand", "arange")
"""Beginnings of the names of operators that use only the shape of a tensor."""

SUMLESS_PRODUCTS = frozenset({"einsum", "outer", "ger", "linalg_vecdot"})
"""Products that torch dispatches as elementwise ones if they sum over no axis, or over the axis of vectors."""

_SIGNS = {"iadd": "add", "radd": "add", "isub": "sub", "imul": "mul", "rmul": "mul", "itruediv": "div", "truediv": "div"}
"""Operator of each method behind an infix operator, by the method's name without underscores."""


def operator_of(func: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> str:  # noqa: ANN401
    """Return the name of the operator that a call of ``func`` is, with the mode of upsampling."""
    name = str(getattr(func, "__name__", func)).strip("_")
    if name == "interpolate":
        return f"interpolate {(kwargs or {}).get('mode', args[3] if len(args) > 3 else 'nearest')}"  # noqa: PLR2004
    return _SIGNS.get(name, name)


def call_style(func: Any, caller: FrameType | None) -> str:  # noqa: ANN401
    """Return the ``call_style`` of a call of ``func`` in the code of ``caller``; for @ torch reports the method behind it."""
    name = getattr(func, "__name__", "")
    if _named(functional, name) is func:
        return "functional"
    if _named(Tensor, name) is not func:
        return "torch"
    if caller is None:
        return "method"
    in_sum = name == "add" and caller.f_code.co_name != REPLACEMENT  # the builtin sum adds without an instruction
    return "infix" if in_sum or dis.opname[caller.f_code.co_code[caller.f_lasti]] == "BINARY_OP" else "method"


def computes(func: Any, kwargs: Mapping[str, Any], given: list[Tensor], results: list[Tensor]) -> bool:  # noqa: ANN401
    """Tell whether a call computes: its result is neither a view, nor a copy, nor its own input."""
    operator = operator_of(func)
    if operator in _LAYOUT or operator.startswith(_FACTORIES) or operator == "get":
        return False
    if (
        func.__name__.startswith("__i")
        or func.__name__[-2:-1] != "_" == func.__name__[-1:]
        or kwargs.get("inplace")
        or "out" in kwargs
    ):
        return True  # in place: add_, __iadd__
    storages = {tensor.untyped_storage()._cdata for tensor in given}  # noqa: SLF001 - a storage's identity; meta tensors have no address
    return any(tensor.untyped_storage()._cdata not in storages for tensor in results)  # noqa: SLF001


def _named(home: Any, name: str) -> Any:  # noqa: ANN401
    found = getattr(home, name, None)
    return getattr(found, ORIGINAL, found)


def fused_on_the_cpu(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Tell whether the CPU runs this call of ``scaled_dot_product_attention`` as one operator, not as its products."""
    args, kwargs = tree_map_only(Tensor, _on_the_cpu, (tuple(args), dict(kwargs)))
    return bool(torch._fused_sdp_choice(*args, **kwargs) != SDPBackend.MATH.value)  # noqa: SLF001 - no public name


def _on_the_cpu(tensor: Tensor) -> Tensor:
    """Return a tensor of the same layout, with memory that is never touched."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")


def opened(function: Any) -> FunctionType:  # noqa: ANN401
    """Return a copy of a Python function of torch that hides itself from function modes, but not the calls inside it."""
    return FunctionType(
        function.__code__,
        {**function.__globals__, "has_torch_function": lambda _: False},
        function.__name__,
        function.__defaults__,
    )

"""What torch dispatches below a call, operator by operator: a reading of its multiply-adds that asks nobody else.

Torch brings the arguments of a dispatched operator into the order of its schema, however the code has written the call. So
this reading and the one by the function's own formula (``multiply_adds``) share nothing but the tensors.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mpvit.trace import ELEMENTWISE_PRODUCT, DispatchedOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Dispatched(TorchDispatchMode):
    """Writes down each operator that multiplies, in order.

    Attributes:
        kernels: what was dispatched so far; elementwise products are among them, as ``ELEMENTWISE_PRODUCT``.
        inside: whether an operator runs now, whose own kernel may be written in torch's functions.
        called: whether a function of torch has called what is dispatched now; else it is given to ``uncalled``.
    """

    def __init__(self, uncalled: Callable[[str, Any, Any], None]) -> None:
        """Start with nothing; ``uncalled`` takes an operator's name, its arguments and its results."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.uncalled = uncalled
        self.kernels: list[DispatchedOperator] = []
        self.inside = self.called = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run an operator, and write it down where it multiplies."""
        name = func.overloadpacket.__name__
        outside, self.inside = not self.inside, True
        try:
            if outside and name in PRODUCTS:
                _require_one_dtype(args)
            out = func(*args, **(kwargs or {}))
        finally:
            self.inside = not outside
        if outside and (name in PRODUCTS or name == ELEMENTWISE_PRODUCT):
            self.kernels.append(DispatchedOperator(name, multiply_adds(name, args, out), _biases(name, args, out)))
        if outside and not self.called and not func.is_view and name not in _COPIES:
            self.uncalled(name, args, out)
        return out


_COPIES = frozenset({"clone", "copy_", "_to_copy", "lift", "lift_fresh", "detach", "_reshape_alias", "_unsafe_view"})
"""Operators that at most copy."""


def multiply_adds(operator: str, args: Sequence[Any], out: Any) -> int:  # noqa: ANN401
    """Return the multiply-adds of one dispatched ``operator``; of an elementwise product one an output element."""
    formula = PRODUCTS.get(operator)
    return formula(args, out) if formula else out.numel() if operator == ELEMENTWISE_PRODUCT else 0


def merged(kernels: Iterable[DispatchedOperator], *, unsummed: bool) -> tuple[DispatchedOperator, ...]:
    """Return one kernel an operator, by name; elementwise products only where they are ``unsummed`` sums of products."""
    found: dict[str, DispatchedOperator] = {}
    for name, macs, biases in kernels:
        if name != ELEMENTWISE_PRODUCT or unsummed:
            before = found.get(name, DispatchedOperator(name, 0, 0))
            found[name] = DispatchedOperator(name, before.macs + macs, before.biases + biases)
    return tuple(found[name] for name in sorted(found))


def _require_one_dtype(args: Sequence[Any]) -> None:
    """Raise ``TypeError`` for operands that no kernel multiplies: without numbers, on meta, nobody else does."""
    dtypes = {str(arg.dtype).removeprefix("torch.") for arg in args if isinstance(arg, Tensor)}
    if len(dtypes) > 1:
        raise TypeError(f"{' and '.join(sorted(dtypes))} are multiplied: must be of one dtype")


def _biases(operator: str, args: Sequence[Any], out: Any) -> int:  # noqa: ANN401
    biased = operator == "addmm" or (operator == "convolution" and args[2] is not None)
    return out.numel() if biased else 0


def _product(left: int, right: int) -> Callable[[Sequence[Any], Any], int]:
    """Return the formula of a product of the arguments at two places: all of the left one, for each column of the right."""

    def formula(args: Sequence[Any], _: Any) -> int:  # noqa: ANN401
        columns = args[right].shape[-1] if args[right].dim() > 1 else 1
        return args[left].numel() * columns

    return formula


def _convolution(args: Sequence[Any], out: Any) -> int:  # noqa: ANN401
    data, weight, transposed = args[0], args[1], args[6]
    return (data if transposed else out).numel() * prod(weight.shape[1:])


def _attention(args: Sequence[Any], _: Any) -> int:  # noqa: ANN401
    query, key, value = (each.shape for each in args[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _recurrent(args: Sequence[Any], _: Any) -> int:  # noqa: ANN401
    data, of_input, of_state = args[:3]
    return prod(data.shape[:-1]) * (of_input.numel() + of_state.numel())


FUSED = (
    "flash_attention",
    "efficient_attention",
    "cudnn_attention",
    "flash_attention_for_cpu",
    "fused_attention_overrideable",
)
"""The kinds of fused attention, as its operators are named."""

PRODUCTS: dict[str, Callable[[Sequence[Any], Any], int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot"), _product(0, 1)),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addbmm", "_addmm_activation"), _product(1, 2)),
    "convolution": _convolution,
    **{f"_scaled_dot_product_{kind}": _attention for kind in FUSED},
    "mkldnn_rnn_layer": _recurrent,
}
"""The operators of torch's dispatcher that are sums of products."""

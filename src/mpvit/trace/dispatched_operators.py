"""The operators that torch dispatches for a call: a reading of its multiply-adds that is independent of ``multiply_adds``.

Torch brings the arguments of a dispatched operator into the order of its schema, however the code has written the call, so
that the two readings share nothing but the tensors.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import prod
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mpvit.trace import ELEMENTWISE_PRODUCT, DispatchedOperator
from mpvit.trace.arguments import tensors_in
from mpvit.trace.call_log import CallLog


class OperatorMode(TorchDispatchMode):
    """Collects the multiplying operators of each call, and logs operators that no function of torch has called.

    Attributes:
        running: whether an operator runs now; its own implementation may call functions of torch.
    """

    def __init__(self, log: CallLog) -> None:
        """Take the log of a forward pass."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = False
        self._log = log
        self._of_call: list[DispatchedOperator] | None = None

    @contextlib.contextmanager
    def of_one_call(self) -> Iterator[list[DispatchedOperator]]:
        """Collect what one call of a function dispatches in the block; elementwise products are included."""
        outer, self._of_call = self._of_call, []
        try:
            yield self._of_call
        finally:
            self._of_call = outer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run an operator and note it if it multiplies or if no function has called it."""
        name = func.overloadpacket.__name__
        outermost, self.running = not self.running, True
        try:
            if outermost and name in PRODUCTS:
                _require_one_dtype(args)
            out = func(*args, **(kwargs or {}))
        finally:
            self.running = not outermost
        if outermost and self._of_call is not None:
            if name in PRODUCTS or name == ELEMENTWISE_PRODUCT:
                self._of_call.append(_operator(name, args, out))
        elif outermost and not func.is_view and name not in _COPIES:
            given, results = (tensors_in(each, integers=name in PRODUCTS) for each in (args, out))
            dispatched = (_operator(name, args, out),) if name in PRODUCTS else ()
            self._log.add(name, "dispatched", given, results, dispatched, macs=sum(each.macs for each in dispatched))
        return out


def _operator(name: str, args: Sequence[Any], out: Any) -> DispatchedOperator:  # noqa: ANN401
    biased = name == "addmm" or (name == "convolution" and args[2] is not None)
    return DispatchedOperator(name, operator_macs(name, args, out), out.numel() if biased else 0)


_COPIES = frozenset({"clone", "copy_", "_to_copy", "lift", "lift_fresh", "detach", "_reshape_alias", "_unsafe_view"})
"""Operators that at most copy."""


def operator_macs(operator: str, args: Sequence[Any], out: Any) -> int:  # noqa: ANN401
    """Return the multiply-adds of one dispatched operator; an elementwise product has one for each output element."""
    formula = PRODUCTS.get(operator)
    return formula(args, out) if formula else out.numel() if operator == ELEMENTWISE_PRODUCT else 0


def merged(operators: Iterable[DispatchedOperator], *, elementwise: bool) -> tuple[DispatchedOperator, ...]:
    """Return one operator for each name, in the order of the names; elementwise products only if asked for."""
    found: dict[str, DispatchedOperator] = {}
    for name, macs, biases in operators:
        if name != ELEMENTWISE_PRODUCT or elementwise:
            before = found.get(name, DispatchedOperator(name, 0))
            found[name] = DispatchedOperator(name, before.macs + macs, before.biases + biases)
    return tuple(found[name] for name in sorted(found))


def _require_one_dtype(args: Sequence[Any]) -> None:
    """Raise ``TypeError`` for operands of several dtypes: the meta device, which has no numbers, does not."""
    dtypes = {str(arg.dtype).removeprefix("torch.") for arg in args if isinstance(arg, Tensor)}
    if len(dtypes) > 1:
        raise TypeError(f"{' and '.join(sorted(dtypes))} are multiplied: must be of one dtype")


def _product(left: int, right: int) -> Callable[[Sequence[Any], Any], int]:
    """Return the formula of a product of two arguments, by their positions: left elements times columns of the right."""

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
"""The kinds of fused attention by the names of their operators."""

PRODUCTS: dict[str, Callable[[Sequence[Any], Any], int]] = {
    **dict.fromkeys(("mm", "bmm", "mv", "dot", "vdot"), _product(0, 1)),
    **dict.fromkeys(("addmm", "addmv", "baddbmm", "addbmm", "_addmm_activation"), _product(1, 2)),
    "convolution": _convolution,
    **{f"_scaled_dot_product_{kind}": _attention for kind in FUSED},
    "mkldnn_rnn_layer": _recurrent,
}
"""The operators of torch's dispatcher that are sums of products, with their multiply-adds from (arguments, result)."""

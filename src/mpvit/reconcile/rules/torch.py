"""``torch.utils.flop_counter.FlopCounterMode`` (torch 2.13), halved: it counts two FLOPs a multiply-add."""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term
from mpvit.trace import Trace


def _macs(trace: Trace) -> Iterator[Term]:
    undispatched = sum(call.dispatched_macs - call.macs for call in trace.calls)
    yield Term(
        "products without a sum",
        undispatched,
        "an einsum that sums over nothing, or over axes of length 1, is dispatched as an elementwise product, which has no "
        "formula in torch.utils.flop_counter",
    )


RULE = Rule(_macs, None, "torch/utils/flop_counter.py, flop_registry")

"""``ptflops`` (0.7.5), backend ``aten``: the operators that reach torch's dispatcher, with their biases."""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term, left_out, without_frozen
from mpvit.trace import UNSUMMED, Trace

_UNKNOWN = ("baddbmm", "scaled_dot_product_attention")
"""Operators with multiply-adds for which torch's own counter has formulas and this backend has none."""


def _macs(trace: Trace) -> Iterator[Term]:
    known = [call for call in trace.calls if call.operator not in _UNKNOWN]
    yield from left_out((call for call in trace.calls if call.operator in _UNKNOWN), "no formula for this operator")
    convolutions = sum(call.biases for call in trace.calls if call.is_convolution)
    others = sum(call.biases for call in trace.calls) - convolutions
    yield Term("biases of convolutions", convolutions, "1 an output element")
    yield Term("biases of linear layers", others, "1 an output element, where the bias is added by the product (addmm)")
    undispatched = sum(call.dispatched_macs(UNSUMMED) for call in known)
    yield Term("products without a sum", -undispatched, "dispatched as an elementwise product, which has no formula")


RULE = Rule(_macs, without_frozen, "ptflops/aten_engine.py and aten_ops.py")

"""``ptflops`` (0.7.5), backend ``aten``: the operators that reach torch's dispatcher, with their biases."""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term, without_frozen
from mpvit.trace import UNSUMMED, Trace

_KNOWN = ("mm", "addmm", "bmm", "convolution")
"""The operators for which it has formulas."""


def _macs(trace: Trace) -> Iterator[Term]:
    for call in trace.calls:
        unsummed, known = call.dispatched_macs(UNSUMMED), call.dispatched_macs(*_KNOWN)
        yield Term("products without a sum", -unsummed, "dispatched as an elementwise product, which has no formula")
        yield Term(f"not counted: {call.operator}", unsummed + known - call.macs, "no formula for what the CPU runs it by")
        if call.is_convolution:
            yield Term("biases of convolutions", call.biases, "1 an output element")
        else:
            reason = "1 an output element, where the bias is added by the product (addmm)"
            yield Term("biases of linear layers", call.biases, reason)


RULE = Rule(_macs, without_frozen, "ptflops/aten_engine.py and aten_ops.py")

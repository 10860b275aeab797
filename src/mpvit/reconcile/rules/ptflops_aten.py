"""``ptflops`` (0.7.5), backend ``aten``: the operators that reach torch's dispatcher, with their biases.

They are the CPU's where these were asked for (``mpvit.trace.kernels``); elsewhere, as in closed form, those of the trace, which
for this project's networks are the same.
"""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term, without_frozen
from mpvit.trace import ELEMENTWISE_PRODUCT, Trace

_KNOWN = ("mm", "addmm", "bmm", "convolution")
"""The operators for which it has formulas."""


def _macs(trace: Trace) -> Iterator[Term]:
    operators = trace.dispatched_on_cpu or tuple(call.dispatched for call in trace.calls)
    for call, own in zip(trace.calls, operators, strict=True):
        unsummed = sum(each.macs for each in own if each.name == ELEMENTWISE_PRODUCT)
        known = sum(each.macs for each in own if each.name in _KNOWN)
        biases = sum(each.biases for each in own)
        yield Term("products without a sum", -unsummed, "dispatched as an elementwise product, which has no formula")
        yield Term(f"not counted: {call.operator}", unsummed + known - call.macs, "no formula for what the CPU runs it by")
        if call.is_convolution:
            yield Term("biases of convolutions", biases, "1 an output element")
        else:
            reason = "1 an output element, where the bias is added by the product (addmm)"
            yield Term("biases of linear layers", biases, reason)


RULE = Rule(_macs, without_frozen, "ptflops/aten_engine.py and aten_ops.py", reads_kernels=True)

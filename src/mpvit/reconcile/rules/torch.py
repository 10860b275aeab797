"""``torch.utils.flop_counter.FlopCounterMode`` (torch 2.13), halved: it counts two FLOPs a multiply-add."""

from collections.abc import Iterator

from mpvit.reconcile import Rule, Term
from mpvit.trace import ELEMENTWISE_PRODUCT, Trace

_VECTORS = ("mv", "addmv", "dot", "vdot")
_OTHERS = {
    "addbmm": "batched products added up",
    "_addmm_activation": "fused activations",
    "mkldnn_rnn_layer": "recurrent layers",
}


def _macs(trace: Trace) -> Iterator[Term]:
    for call in trace.calls:
        yield Term(
            "products without a sum",
            -call.dispatched_macs(ELEMENTWISE_PRODUCT),
            "an einsum that sums over nothing, or over axes of length 1, and an outer product are dispatched as elementwise "
            "products, which have no formula in torch.utils.flop_counter",
        )
        yield Term("products of vectors", -call.dispatched_macs(*_VECTORS), "mv and dot have no formula there")
        for operator, name in _OTHERS.items():
            yield Term(name, -call.dispatched_macs(operator), f"{operator} has no formula there")


RULE = Rule(_macs, None, "torch/utils/flop_counter.py, flop_registry")

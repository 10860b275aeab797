"""``torch.utils.flop_counter.FlopCounterMode`` (torch 2.13), halved: it counts two FLOPs for a multiply-add."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpvit.tools import Term, Tool, ToolCount
from mpvit.trace import ELEMENTWISE_PRODUCT, Trace
from mpvit.units import FLOPS_PER_MAC

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils._python_dispatch import TorchDispatchMode

_VECTORS = ("mv", "addmv", "dot", "vdot")
_OTHERS = {
    "addbmm": "batched products added up",
    "_addmm_activation": "fused activations",
    "mkldnn_rnn_layer": "recurrent layers",
}


def _rule(trace: Trace) -> Iterator[Term]:
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


# ── the tool itself ─────────────────────────────────────────────────────────────────────────────────────────────────

_KINDS = {
    "aten.convolution": "conv",
    "aten.addmm": "linear",
    "aten.mm": "linear",
    "aten.bmm": "matmul",
    "aten.baddbmm": "matmul",
}


def _run(network: "nn.Module", tensors: "Sequence[Tensor]") -> ToolCount:
    """Count on the meta device: exact, without memory for activations. If the network cannot run there, on the CPU.

    torch has no formula for the CPU's operator of fused attention, so its products run one by one there.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from mpvit.user_model.isolation import copies

    try:
        with torch.device("meta"):
            return _counted(*copies(network, tensors, "meta"))
    except Exception:  # noqa: BLE001 - whatever the network raises there
        with sdpa_kernel(SDPBackend.MATH):
            return _counted(network, tensors)


def _counted(network: "nn.Module", tensors: "Sequence[Tensor]") -> ToolCount:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mpvit.tools.by_module import charged

    network.requires_grad_(requires_grad=False)  # its tracker of modules fails on a layer that returns its own parameter
    counter, without_formula = FlopCounterMode(display=False), Counter[str]()
    by_module = charged(network, lambda: counter.get_total_flops() // FLOPS_PER_MAC)
    with torch.no_grad(), counter, _noting(without_formula):
        network(*tensors)
    by_kind: Counter[str] = Counter()
    for operator, flops in counter.get_flop_counts()["Global"].items():
        by_kind[_KINDS.get(str(operator), str(operator))] += flops // FLOPS_PER_MAC
    return ToolCount(
        macs=counter.get_total_flops() // FLOPS_PER_MAC,
        params=None,
        by_module=by_module,
        by_kind=dict(by_kind),
        not_counted=dict(without_formula),
    )


def _noting(without_formula: Counter[str]) -> "TorchDispatchMode":
    """Return a mode that counts the dispatched operators for which torch has no formula; views compute nothing."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
            if func.overloadpacket not in flop_registry and not func.is_view:
                without_formula[str(func.overloadpacket)] += 1
            return func(*args, **(kwargs or {}))

    return Noting()  # type: ignore[no-untyped-call]


def _prints(macs: int) -> str:
    return f"{FLOPS_PER_MAC * macs} FLOPs"


TOOL = Tool(
    name="torch",
    distribution="torch",
    version="2.13.0",
    source="torch/utils/flop_counter.py, flop_registry",
    rule=_rule,
    params_rule=None,
    run=_run,
    prints=_prints,
    convention="matmul",
)

"""torch's own ``FlopCounterMode`` on the meta device: convolutions and matrix products as they are dispatched."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from mpvit.config import ModelConfig
from mpvit.counting.by_module import charged
from mpvit.counting.isolation import fresh_model, isolated, throwaway
from mpvit.counting.results import Count, Counted
from mpvit.operations import Shape
from mpvit.units import FLOPS_PER_MAC

_KINDS = {
    "aten.convolution": "conv",
    "aten.addmm": "linear",
    "aten.mm": "linear",
    "aten.bmm": "matmul",
    "aten.baddbmm": "matmul",
}


class _PassedOver(TorchDispatchMode):
    """Collect the dispatched operators for which torch's counter has no rule; views compute nothing and are left out."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(  # the signature is torch's own
        self,
        func: Any,  # noqa: ANN401
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func.overloadpacket not in flop_registry and not func.is_view:
            self.calls[str(func.overloadpacket)] += 1
        return func(*args, **(kwargs or {}))


def count(name: str, config: ModelConfig, shape: Shape, convention: str) -> Count:
    """Count on an input of ``shape`` (B, C, H, W); exact, without memory for activations. It counts 2 FLOPs a MAC."""
    passed_over = _PassedOver()
    with isolated("torch"):
        model = fresh_model(config, "meta")
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter, passed_over:
            model(torch.empty(shape, device="meta"))
    by_kind: Counter[str] = Counter()
    for operator, flops in counter.get_flop_counts()["Global"].items():
        by_kind[_KINDS[str(operator)]] += flops // FLOPS_PER_MAC
    return Count(
        model=name,
        input_shape=shape,
        counter="torch",
        convention=convention,
        params=sum(parameter.numel() for parameter in model.parameters()),
        macs=counter.get_total_flops() // FLOPS_PER_MAC,
        activations=None,
        by_kind=dict(by_kind),
        not_counted=dict(passed_over.calls),
    )


def run(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module, on the meta device or, where it cannot run there, on the CPU; it leaves parameters to others.

    On the CPU fused attention is a kernel for which torch has no formula, so that there its products are run one by one.
    """
    with isolated("torch"):
        try:
            with torch.device("meta"):
                return _counted(*throwaway(model, inputs, "meta"))
        except Exception:
            if any(tensor.is_meta for tensor in inputs):
                raise
            with sdpa_kernel(SDPBackend.MATH):
                return _counted(*throwaway(model, inputs, "cpu"))


def _counted(network: nn.Module, tensors: Sequence[Tensor]) -> Counted:
    network.requires_grad_(requires_grad=False)  # its tracker of modules fails on a layer that returns its own parameter
    counter = FlopCounterMode(display=False)
    by_module = charged(network, lambda: counter.get_total_flops() // FLOPS_PER_MAC)
    with torch.no_grad(), counter:
        network(*tensors)
    return Counted(counter.get_total_flops() // FLOPS_PER_MAC, None, by_module)

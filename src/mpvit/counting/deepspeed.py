"""DeepSpeed's flops profiler: patched functions of torch, each call counted once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpvit.counting.by_module import annotated
from mpvit.counting.isolation import isolated, throwaway
from mpvit.counting.results import Counted


def run(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module, on the CPU."""
    with isolated("deepspeed"), torch.no_grad():
        from deepspeed.profiling.flops_profiler import get_model_profile

        network, tensors = throwaway(model, inputs, "cpu")
        by_module = annotated(network, "__macs__")
        _, macs, params = get_model_profile(network, args=tensors, print_profile=False, as_string=False, warm_up=0)
        return Counted(macs, params, by_module)

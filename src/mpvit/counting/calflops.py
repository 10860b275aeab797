"""calflops: patched functions of torch, charged to the modules that call them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpvit.counting.by_module import annotated
from mpvit.counting.isolation import isolated, throwaway
from mpvit.counting.results import Counted


def run(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module, on the CPU."""
    with isolated("calflops"), torch.no_grad():
        from calflops import calculate_flops

        network, tensors = throwaway(model, inputs, "cpu")
        by_module = annotated(network, "__macs__")
        _, macs, params = calculate_flops(network, args=tensors, print_results=False, output_as_string=False)
        return Counted(macs, params, by_module)

"""torchinfo: a line a call of each module, its parameters times what it takes for the positions of its output."""

from collections.abc import Sequence

from torch import Tensor, nn

from mpvit.counting.isolation import isolated, throwaway
from mpvit.counting.results import Counted


def run(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module, on the CPU."""
    with isolated("torchinfo"):
        from torchinfo import summary

        network, tensors = throwaway(model, inputs, "cpu")
        found = summary(network, input_data=tensors, device="cpu", verbose=0)
        return Counted(found.total_mult_adds, found.total_params)

"""torchinfo: a line a call of each module, its parameters times what it takes for the positions of its output."""

from collections import Counter
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
        names = {module: name for name, module in network.named_modules()}
        by_module: Counter[str] = Counter()
        for line in found.summary_list:
            by_module[names[line.module]] += line.macs if line.is_leaf_layer else 0
        return Counted(found.total_mult_adds, found.total_params, by_module)

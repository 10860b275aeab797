"""fvcore's ``FlopCountAnalysis`` and ``ActivationCountAnalysis``: the counter behind the published figures.

It traces a real forward pass and keeps every intermediate tensor, so its memory grows with the image. Its "FLOP" is a
MAC, and it rounds an einsum's cost to four significant digits.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mpvit.config import ModelConfig
from mpvit.cost import network
from mpvit.counting.by_module import without_below
from mpvit.counting.isolation import fresh_model, isolated, throwaway
from mpvit.counting.results import Count, Counted
from mpvit.measurement.machine import free_bytes
from mpvit.operations import Shape, walk

_KINDS = {"einsum": "matmul", "adaptive_avg_pool2d": "pool"}
"""fvcore's operator names where they are not this project's kinds."""

_BYTES_PER_ELEMENT = 4


def count(name: str, config: ModelConfig, shape: Shape, convention: str) -> Count:
    """Count on an input of ``shape`` (B, C, H, W); raise ``MpvitError`` where the trace would not fit into memory."""
    with isolated("fvcore"):
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, parameter_count

        _require_memory(config, shape)
        model = fresh_model(config, "cpu")
        image = torch.zeros(shape)
        with torch.no_grad():
            flops, activations = FlopCountAnalysis(model, image), ActivationCountAnalysis(model, image)
            operators = flops.by_operator()
            by_kind: Counter[str] = Counter()
            for operator, macs in operators.items():
                by_kind[_KINDS.get(operator, operator)] += int(macs)
            return Count(
                model=name,
                input_shape=shape,
                counter="fvcore",
                convention=convention,
                params=parameter_count(model)[""],
                macs=int(flops.total()),
                activations=int(activations.total()),
                by_kind=dict(by_kind),
                not_counted=dict(flops.unsupported_ops()),
            )


def _require_memory(config: ModelConfig, shape: Shape) -> None:
    """Raise ``MemoryError`` before the machine starts to swap: the trace holds the output of each operation."""
    batch, _, height, width = shape
    outputs = (operation for _, _, operation in walk(network(config, batch, height, width)))
    elements = sum(operation.calls * torch.Size(operation.output_shape).numel() for operation in outputs)
    needed = _BYTES_PER_ELEMENT * elements
    free = free_bytes()
    if needed > free:
        raise MemoryError(f"its trace of {shape} holds about {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free")


def run(model: nn.Module, inputs: Sequence[Tensor]) -> Counted:
    """Count any module, on the CPU, with memory for every tensor that its forward pass makes."""
    with isolated("fvcore"):
        from fvcore.nn import FlopCountAnalysis, parameter_count

        network, tensors = throwaway(model, inputs, "cpu")
        with torch.no_grad():
            flops = FlopCountAnalysis(network, tuple(tensors))
            by_module = without_below(flops.by_module(), dict(network.named_modules()))
            return Counted(int(flops.total()), parameter_count(network)[""], by_module)

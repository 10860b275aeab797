"""Measures what a machine can do at best: multiply-adds in a large matrix product, bytes in a large copy."""

import torch

from mpvit.benchmark.roofline import Ceilings
from mpvit.measurement.timing import run

PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""The matrices' side on each type of device."""

COPIED_BYTES = {"cpu": 2**28, "cuda": 2**30, "mps": 2**28}
"""Far more than most caches hold."""

_FEWEST_SAMPLES = 3


def measure_ceilings(device: torch.device, dtype: torch.dtype, min_time_s: float, budget_s: float | None = None) -> Ceilings:
    """Time a product of two square matrices of ``dtype`` and a copy; what does not fit into memory has no ceiling."""
    side, size = PRODUCT_SIDE[device.type], COPIED_BYTES[device.type]
    operands: list[torch.Tensor] = []
    buffers: list[torch.Tensor] = []

    def multiply() -> None:
        if not operands:
            operands.extend(torch.ones(side, side, dtype=dtype, device=device) for _ in range(3))
        torch.mm(operands[0], operands[1], out=operands[2])

    def copy() -> None:
        if not buffers:
            buffers.extend(torch.ones(size, dtype=torch.uint8, device=device) for _ in range(2))
        buffers[1].copy_(buffers[0])

    product, copied = run(
        {"matrix product": multiply, "copy": copy},
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        min_time_s=min_time_s,
        budget_s=budget_s,
        min_samples=_FEWEST_SAMPLES,
        memory=False,
    )
    return Ceilings(product=product, product_macs=side**3, copy=copied, copy_bytes=2 * size)

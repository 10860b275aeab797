"""Measurement of the two ceilings of a machine: multiply-adds in a large matrix product, and bytes in a large copy."""

import torch

from mpvit.benchmark.roofline import Ceilings
from mpvit.measurement.options import TimingOptions
from mpvit.measurement.timing import run

PRODUCT_SIDE = {"cpu": 2048, "cuda": 8192, "mps": 4096}
"""Rows and columns of the square matrices, by type of device."""

COPIED_BYTES = {"cpu": 2**28, "cuda": 2**30, "mps": 2**28}
"""Size of the copied tensor in bytes, by type of device; far more than most caches hold."""

_TIME_SHARE = 0.5
"""Minimum time of each ceiling, as a share of the minimum time of a network."""

_MIN_SAMPLES = 3


def measure_ceilings(options: TimingOptions, budget_s: float | None) -> Ceilings:
    """Time a product of two square matrices and a copy; one that does not fit into memory is an unknown ceiling."""
    device, dtype = torch.device(options.device), getattr(torch, options.element_dtype)
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
        dtype=options.element_dtype,
        min_time_s=_TIME_SHARE * options.min_time_s,
        budget_s=budget_s,
        min_samples=_MIN_SAMPLES,
        memory=False,
    )
    return Ceilings(product=product, product_macs=side**3, copy=copied, copy_bytes=2 * size)

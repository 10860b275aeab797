"""The device that torch runs on, and whether torch runs or records a graph."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from mpvit.errors import UsageError

if TYPE_CHECKING:
    import torch


def parse_device(name: str) -> torch.device:
    """Return the device called ``name``: cpu, cuda, cuda:1 or mps; raise ``UsageError`` if this machine does not have it."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of drivers that it cannot use
        available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in available:
        raise UsageError(f"device {name!r}: must be cpu, cuda, cuda:INDEX or mps")
    if (device.index or 0) >= available[device.type]:
        found = ", ".join(f"{count} {kind}" for kind, count in available.items() if count)
        raise UsageError(f"device {name!r}: torch finds no such device here, only {found}", hint="cpu always works")
    return device


def in_torch_graph() -> bool:
    """Return whether torch compiles, exports or traces what runs: the graph must then serve every batch and image size."""
    import torch

    return torch.compiler.is_compiling() or bool(torch.jit.is_tracing())  # type: ignore[attr-defined,no-untyped-call]

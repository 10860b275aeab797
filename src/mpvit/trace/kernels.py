"""What the CPU makes of each call of a trace: it has kernels of its own, and other layouts of memory than the meta device."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mpvit.trace.live import trace_module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from mpvit.trace import Trace


def with_kernels(trace: Trace, model: nn.Module, inputs: Sequence[Tensor]) -> Trace:
    """Return ``trace`` with the kernels that run for ``model(*inputs)``, the network that it is of, on the CPU.

    Where that calls anything else than the trace has, it comes back without.
    """
    found = trace_module(model, inputs)
    same = [(call.path, call.operator) for call in found.calls] == [(call.path, call.operator) for call in trace.calls]
    return replace(trace, dispatched_on_cpu=tuple(call.dispatched for call in found.calls)) if same else trace

"""The most memory that torch's allocator holds at once during a call.

Libraries below torch that allocate for themselves (oneDNN's scratch on the CPU, for one) are not seen; nor is the memory
that a CUDA graph keeps from its recording, of which a replay takes only the output's copy.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

_ALLOCATION = "[memory]"
"""The name of an allocation, or with negative bytes its release, in the trace that torch's profiler exports."""

_NO_PROFILER_MESSAGES = ("KINETO_LOG_LEVEL", "6")
"""The library below the profiler writes lines of its own to stderr below this level."""


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the peak above what was allocated before, what ``call`` returns included; None where nothing can tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return highest(_allocations(call)) if device.type == "cpu" else None


def highest(allocations: Iterable[int]) -> int:
    """Return the peak of the running sum of allocated (positive) and released (negative) bytes, at least 0."""
    return max(accumulate(allocations, initial=0))


def _allocations(call: Callable[[], object]) -> list[int]:
    """Return the bytes that each allocation on the CPU took, or gave back, during ``call``, in order."""
    with tempfile.TemporaryDirectory() as folder, _silenced():
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            result = call()
        del result
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())["traceEvents"]
    on_cpu = [event for event in events if event.get("name") == _ALLOCATION and event["args"]["Device Type"] == 0]
    return [int(event["args"]["Bytes"]) for event in sorted(on_cpu, key=lambda event: float(event["ts"]))]


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    name, value = _NO_PROFILER_MESSAGES
    known = os.environ.get(name)
    os.environ[name] = known or value
    try:
        yield
    finally:
        if known is None:
            del os.environ[name]

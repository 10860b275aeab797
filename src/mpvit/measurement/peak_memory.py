"""Peak memory of torch's allocator during a call.

It does not include the memory that libraries below torch allocate themselves, such as the scratch memory of oneDNN on the
CPU, nor the memory that a CUDA graph keeps from its recording.
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
"""Name of an allocation or release event in the trace that torch's profiler exports; the bytes of a release are negative."""

_LOG_LEVEL = ("KINETO_LOG_LEVEL", "6")
"""Environment variable, and the value at which the library below the profiler writes nothing to stderr."""


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the peak above what was allocated before, including the result of ``call``; None if the device has no record."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    return highest_sum(_allocations(call)) if device.type == "cpu" else None


def highest_sum(allocations: Iterable[int]) -> int:
    """Return the peak of the running sum of allocated (positive) and released (negative) bytes, at least 0."""
    return max(accumulate(allocations, initial=0))


def _allocations(call: Callable[[], object]) -> list[int]:
    """Return the bytes of each allocation (positive) and release (negative) on the CPU during ``call``, in order."""
    with tempfile.TemporaryDirectory() as folder, _quiet_profiler():
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            result = call()
        del result
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_bytes())["traceEvents"]
    on_cpu = [event for event in events if event.get("name") == _ALLOCATION and event["args"]["Device Type"] == 0]
    return [int(event["args"]["Bytes"]) for event in sorted(on_cpu, key=lambda event: float(event["ts"]))]


@contextlib.contextmanager
def _quiet_profiler() -> Iterator[None]:
    name, level = _LOG_LEVEL
    if name in os.environ:
        yield
        return
    os.environ[name] = level
    try:
        yield
    finally:
        del os.environ[name]

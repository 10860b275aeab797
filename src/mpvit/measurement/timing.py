"""The timing harness with which every latency of this project is measured.

All cases of a run are first warmed up. Then they are timed in rounds, each of which takes one sample of each case. A
disturbance of the machine thus affects all cases alike, and the samples of one round can be compared in pairs.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil

import torch

from mpvit.errors import first_line
from mpvit.measurement import BUDGET, INTERRUPTED, MIN_SAMPLES, OUT_OF_MEMORY, Measurement
from mpvit.measurement.options import TF32, TimingOptions, require_seconds
from mpvit.measurement.peak_memory import peak_bytes

Case = Callable[[], object]

WARMUP_RUNS = 2
"""Minimum number of warm-up calls; the first call also allocates memory, selects algorithms and compiles."""

_WARMUP_SHARE = 0.1
"""Duration of the warm-up of each case, as a share of the minimum time."""

_SAMPLE_SHARE = 0.02
"""Duration of one sample, as a share of the minimum time, within the two limits below."""

_MAX_SAMPLE_S = 0.02
_MIN_SAMPLE_S = 1e-3
"""Limits of the duration of a sample of repeated calls, in seconds: hundreds of times the cost of reading the clock."""

_ALLOCATION_FAILURES = ("can't allocate memory", "bad_alloc", "out of memory", "not enough memory")
"""Parts of the text of a plain ``RuntimeError`` of torch, or of a library below it, that memory ran out."""


@dataclass(slots=True)
class _Case:
    """A case and its results so far."""

    call: Case
    device: torch.device
    warmup_runs: int = 0
    call_s: float = 0.0
    repetitions: int = 1
    samples_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    error: str = ""
    stopped: str = ""

    def finished(self, min_time_s: float, min_samples: int) -> bool:
        total_s = sum(self.samples_s) * self.repetitions
        return bool(self.error or self.stopped) or (total_s >= min_time_s and len(self.samples_s) >= min_samples)

    def measurement(self, name: str, dtype: str) -> Measurement:
        return Measurement(
            name=name,
            samples_s=tuple(self.samples_s),
            warmup_runs=self.warmup_runs,
            repetitions=self.repetitions,
            device=str(self.device),
            dtype=dtype,
            threads=torch.get_num_threads(),
            peak_bytes=self.peak_bytes,
            error=self.error,
            stopped=self.stopped,
        )


def run(
    cases: Mapping[str, Case],
    *,
    device: str | torch.device = "cpu",
    dtype: str = "",
    min_time_s: float = 2.0,
    budget_s: float | None = None,
    min_samples: int = MIN_SAMPLES,
    memory: bool = True,
) -> tuple[Measurement, ...]:
    """Time ``cases`` by name, interleaved, each for at least ``min_time_s`` seconds and ``min_samples`` samples.

    Every case is first warmed up; with ``memory``, one more call measures its peak memory. ``budget_s`` limits the whole
    run: a call that would exceed it, judging by earlier calls, is not started. The calls of one sample do not wait for the
    device; the clock is read when the device has finished them all.

    Returns one ``Measurement`` for each case, in order. A case that runs out of memory has an ``error``, and the other cases
    continue. A case that the budget or Ctrl-C ended early has the reason in ``stopped``; ``KeyboardInterrupt`` is not raised
    again. Raises ``UsageError`` unless the times are above 0, and every other exception of a case.
    """
    require_seconds("min_time_s", min_time_s)
    if budget_s is not None:
        require_seconds("budget_s", budget_s)
    deadline = time.perf_counter() + (float("inf") if budget_s is None else budget_s)
    started = {name: _Case(call, torch.device(device)) for name, call in cases.items()}
    try:
        for case in started.values():
            with _memory_errors(case):
                _warm_up(case, min_time_s, deadline, memory=memory)
        _sample_in_rounds(list(started.values()), min_time_s, min_samples, deadline)
    except KeyboardInterrupt:
        for case in started.values():
            if not case.finished(min_time_s, min_samples):
                case.stopped = INTERRUPTED
    return tuple(case.measurement(name, dtype) for name, case in started.items())


@contextmanager
def configured(options: TimingOptions) -> Iterator[None]:
    """Configure torch for a run with ``options``; afterwards restore its settings and its random state."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    tf32, device = options.dtype == TF32, torch.device(options.device)
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32),
    ):
        try:
            torch.set_num_threads(options.threads or threads)
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has finished its work; on the CPU every call has finished when it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` means that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error).lower() for text in _ALLOCATION_FAILURES)


def error_text(error: BaseException) -> str:
    """Return the reason why a case failed as one line, which begins with ``OUT_OF_MEMORY`` if memory ran out."""
    if not out_of_memory(error):
        return first_line(error)
    return f"{OUT_OF_MEMORY}: {first_line(error)}" if str(error).strip() else OUT_OF_MEMORY


def round_order(cases: int, round_number: int) -> list[int]:
    """Return the order of the cases in one round.

    Every second round has the reverse order of the round before it, and each such pair starts one case later than the pair
    before it. Every case thus comes equally often before and after every other case.
    """
    first = round_number // 2 % cases
    order = [(first + step) % cases for step in range(cases)]
    return order[::-1] if round_number % 2 else order


def _sample_in_rounds(cases: list[_Case], min_time_s: float, min_samples: int, deadline: float) -> None:
    cases = [case for case in cases if not case.finished(min_time_s, min_samples)]
    sample_s = min(max(_SAMPLE_SHARE * min_time_s, _MIN_SAMPLE_S), _MAX_SAMPLE_S)
    for case in cases:
        case.repetitions = max(1, ceil(sample_s / case.call_s)) if case.call_s else 1
    round_number = 0
    while cases:
        for index in round_order(len(cases), round_number):
            case = cases[index]
            if time.perf_counter() + case.call_s * case.repetitions > deadline:
                case.stopped = BUDGET
                continue
            with _memory_errors(case):
                case.samples_s.append(_sample(case))
        cases = [case for case in cases if not case.finished(min_time_s, min_samples)]
        round_number += 1


def _sample(case: _Case) -> float:
    """Return the seconds per call of one sample, taken without Python's garbage collector."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        synchronize(case.device)
        start = time.perf_counter()
        for _ in range(case.repetitions):
            case.call()
        synchronize(case.device)
        return (time.perf_counter() - start) / case.repetitions
    finally:
        if collecting:
            gc.enable()


def _warm_up(case: _Case, min_time_s: float, deadline: float, *, memory: bool) -> None:
    """Call the case until the warm-up is long enough, store the time of the fastest call, then measure the peak memory."""
    start = time.perf_counter()
    calls_s: list[float] = []
    while case.warmup_runs < WARMUP_RUNS or time.perf_counter() - start < _WARMUP_SHARE * min_time_s:
        if time.perf_counter() + min(calls_s, default=0.0) > deadline:
            case.stopped = BUDGET
            return
        calls_s.append(_sample(case))
        case.warmup_runs += 1
    case.call_s = min(calls_s)
    if memory:
        case.peak_bytes = _peak_or_unknown(case)


def _peak_or_unknown(case: _Case) -> int | None:
    """Return None if there is too little memory, or disk space, to record the allocations: the call itself may still fit."""
    try:
        return peak_bytes(case.call, case.device)
    except (MemoryError, RuntimeError, OSError) as error:
        if not isinstance(error, OSError) and not out_of_memory(error):
            raise
        return None


@contextmanager
def _memory_errors(case: _Case) -> Iterator[None]:
    """Store an out-of-memory error in ``case`` instead of raising it, and release its memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        case.error = error_text(error)
    if case.error and torch.cuda.is_initialized():  # not in the except block: there the traceback holds the tensors
        torch.cuda.empty_cache()

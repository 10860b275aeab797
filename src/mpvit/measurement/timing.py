"""The one timing harness: every latency of this project is measured here.

All cases of a run are warmed up, then timed in rounds that take one sample of each, so that whatever else the machine
does falls on all of them alike, and samples of the same round can be compared in pairs.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import ceil

import torch

from mpvit.errors import UsageError, first_line
from mpvit.measurement import BUDGET, FEW_SAMPLES, INTERRUPTED, OUT_OF_MEMORY, Measurement
from mpvit.measurement.peak_memory import peak_bytes

Case = Callable[[], object]

WARMUP_RUNS = 2
"""At least; the first call also allocates, picks algorithms and compiles."""

_WARMUP_SHARE = 0.1
"""Of the minimum time, that each case is warmed up for."""

_SAMPLE_SHARE = 0.02
_LONGEST_REPEATED_S = 0.02
_SHORTEST_REPEATED_S = 1e-3
"""A sample repeats its call until it takes between these two, hundreds of times what reading the clock costs."""

_ALLOCATION_FAILURES = ("can't allocate memory", "bad_alloc", "out of memory", "not enough memory")
"""What torch and the libraries below it say in a plain ``RuntimeError``."""


@dataclass(slots=True)
class _Progress:
    """What is known of a case so far."""

    call: Case
    warmup_runs: int = 0
    call_s: float = 0.0
    repetitions: int = 1
    samples_s: list[float] = field(default_factory=list)
    peak_bytes: int | None = None
    error: str = ""
    stopped: str = ""

    def done(self, min_time_s: float, min_samples: int) -> bool:
        taken_s = sum(self.samples_s) * self.repetitions
        return bool(self.error or self.stopped) or (taken_s >= min_time_s and len(self.samples_s) >= min_samples)


def run(
    cases: Mapping[str, Case],
    *,
    device: str | torch.device = "cpu",
    dtype: str = "",
    min_time_s: float = 2.0,
    budget_s: float | None = None,
    min_samples: int = FEW_SAMPLES,
    memory: bool = True,
) -> tuple[Measurement, ...]:
    """Time ``cases`` by name, interleaved, each for ``min_time_s`` seconds and ``min_samples`` samples.

    Every case is first warmed up; with ``memory`` one further call measures its peak. ``budget_s`` bounds the run as a
    whole: no call is started that would not fit by what it took before. Calls of one sample follow each other without
    waiting for the device; the clock is read when it has finished.
    Returns one ``Measurement`` a case, in order, whatever happens: a case that runs out of memory has an ``error`` and
    the others go on; one that the budget or Ctrl-C (which is not raised again: see ``interrupted``) cut short says so in
    ``stopped``. Raises ``UsageError`` for a time that is not above 0, and whatever else a case raises.
    """
    for name, seconds in (("min_time_s", min_time_s), ("budget_s", budget_s)):
        if seconds is not None and not seconds > 0:
            raise UsageError(f"{name} = {seconds}: must be above 0 seconds")
    place = torch.device(device)
    deadline = time.perf_counter() + (float("inf") if budget_s is None else budget_s)
    progress = {name: _Progress(call) for name, call in cases.items()}
    try:
        for case in progress.values():
            _guarded(case, partial(_warm_up, case, place, min_time_s, deadline, memory=memory))
        _sample_in_rounds(list(progress.values()), place, min_time_s, min_samples, deadline)
    except KeyboardInterrupt:
        for case in progress.values():
            if not case.done(min_time_s, min_samples):
                case.stopped = INTERRUPTED
    return tuple(_measurement(name, case, place, dtype) for name, case in progress.items())


@contextmanager
def cpu_threads(wanted: int | None) -> Iterator[None]:
    """Give torch's operations ``wanted`` CPU threads while this lasts; None leaves torch its choice."""
    before = torch.get_num_threads()
    try:
        if wanted is not None:
            torch.set_num_threads(wanted)
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until ``device`` has done what it was given; the CPU has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that there was not enough memory, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _ALLOCATION_FAILURES)


def memory_error_text(error: BaseException) -> str:
    """Return what a result says of an ``out_of_memory`` error: one line."""
    return f"{OUT_OF_MEMORY}: {first_line(error)}" if str(error).strip() else OUT_OF_MEMORY


def in_turn(cases: int, round_number: int) -> list[int]:
    """Return the order of a round: each pair of rounds runs there and back, and starts one case later than the last.

    So every case comes equally often before and behind every other.
    """
    first = round_number // 2 % cases
    order = [(first + step) % cases for step in range(cases)]
    return order[::-1] if round_number % 2 else order


def _sample_in_rounds(
    cases: list[_Progress], device: torch.device, min_time_s: float, min_samples: int, deadline: float
) -> None:
    cases = [case for case in cases if not case.done(min_time_s, min_samples)]
    for case in cases:
        case.repetitions = _repetitions(case.call_s, min_time_s)
    round_number = 0
    while cases:
        for index in in_turn(len(cases), round_number):
            case = cases[index]
            if time.perf_counter() + case.call_s * case.repetitions > deadline:
                case.stopped = BUDGET
            else:
                _guarded(case, partial(_add_sample, case, device))
        cases = [case for case in cases if not case.done(min_time_s, min_samples)]
        round_number += 1


def _repetitions(call_s: float, min_time_s: float) -> int:
    wanted_s = min(max(_SAMPLE_SHARE * min_time_s, _SHORTEST_REPEATED_S), _LONGEST_REPEATED_S)
    return max(1, ceil(wanted_s / call_s)) if call_s else 1


def _add_sample(case: _Progress, device: torch.device) -> None:
    case.samples_s.append(_sample(case, device))


def _sample(case: _Progress, device: torch.device) -> float:
    """Return the seconds per call of one sample, with Python's garbage collector off."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(case.repetitions):
            case.call()
        synchronize(device)
        return (time.perf_counter() - start) / case.repetitions
    finally:
        if collecting:
            gc.enable()


def _warm_up(case: _Progress, device: torch.device, min_time_s: float, deadline: float, *, memory: bool) -> None:
    """Call until the time is up and the number reached, keep what the fastest took; then measure the peak memory."""
    start = time.perf_counter()
    calls_s: list[float] = []
    while case.warmup_runs < WARMUP_RUNS or time.perf_counter() - start < _WARMUP_SHARE * min_time_s:
        if time.perf_counter() + min(calls_s, default=0.0) > deadline:
            case.stopped = BUDGET
            return
        calls_s.append(_sample(case, device))
        case.warmup_runs += 1
    case.call_s = min(calls_s)
    if memory:
        case.peak_bytes = _peak_or_unknown(case.call, device)


def _peak_or_unknown(call: Case, device: torch.device) -> int | None:
    """Return None where the record of the allocations itself finds no room: the call may still fit."""
    try:
        return peak_bytes(call, device)
    except (MemoryError, RuntimeError, OSError) as error:
        if not isinstance(error, OSError) and not out_of_memory(error):
            raise
        return None


def _guarded(case: _Progress, step: Case) -> None:
    """Do a step of ``case``; where it runs out of memory, that becomes the case's error and its memory is given back."""
    if case.error or case.stopped:
        return
    try:
        step()
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        case.error = memory_error_text(error)
    if case.error and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _measurement(name: str, case: _Progress, device: torch.device, dtype: str) -> Measurement:
    return Measurement(
        name=name,
        samples_s=tuple(case.samples_s),
        warmup_runs=case.warmup_runs,
        repetitions=case.repetitions,
        device=str(device),
        dtype=dtype,
        threads=torch.get_num_threads(),
        peak_bytes=case.peak_bytes,
        error=case.error,
        stopped=case.stopped,
    )

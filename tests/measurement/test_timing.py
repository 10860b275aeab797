"""The one timing harness: order, samples, memory, and what it does when it is cut short."""

import gc
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import pytest
import torch

from mpvit.errors import UsageError
from mpvit.measurement import BUDGET, INTERRUPTED, MIN_SAMPLES, WARNINGS, Measurement, has_slow_start, outlier_share
from mpvit.measurement.peak_memory import highest_sum, peak_bytes
from mpvit.measurement.timing import WARMUP_RUNS, error_text, out_of_memory, round_order, run

CPU = torch.device("cpu")
MATRIX = torch.ones(1000, 500)


def nothing() -> None:
    return None


def slow() -> None:
    time.sleep(0.002)


def measurement(*samples: float, repetitions: int = 1000, error: str = "") -> Measurement:
    return Measurement(name="case", samples_s=samples, repetitions=repetitions, device="cpu", threads=1, error=error)


def test_every_case_is_measured_and_every_sample_kept() -> None:
    calls = {"short": 0, "long": 0}

    def counted(name: str, work: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            calls[name] += 1
            work()

        return call

    cases = {"short": counted("short", nothing), "long": counted("long", slow)}
    short, long = run(cases, min_time_s=0.05, dtype="float32", memory=False)
    for found in (short, long):
        assert len(found.samples_s) >= MIN_SAMPLES
        assert found.warmup_runs >= WARMUP_RUNS
        assert calls[found.name] == found.warmup_runs + found.repetitions * len(found.samples_s)
        assert sum(found.samples_s) * found.repetitions >= 0.05
        assert (found.device, found.dtype, found.threads) == ("cpu", "float32", torch.get_num_threads())
        assert (found.error, found.stopped) == ("", "")
    assert long.repetitions == 1
    assert short.repetitions >= 100
    assert long.median_s is not None
    assert long.median_s >= 0.002


def test_warm_up_and_budget_are_seconds_of_the_clock_on_the_wall() -> None:
    """Of which a call that sleeps takes the processor next to none."""
    (warm,) = run({"case": slow}, min_time_s=0.1, memory=False)
    assert WARMUP_RUNS <= warm.warmup_runs <= 0.1 * 0.1 / 0.002 + WARMUP_RUNS
    (cut,) = run({"case": slow}, min_time_s=60, budget_s=0.05, memory=False)
    assert cut.warmup_runs + len(cut.samples_s) <= 0.05 / 0.002
    assert cut.stopped == BUDGET


UNIT = 2.0**-10
"""Of a clock that only calls move: about a millisecond, whose multiples are exact."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    clock = Clock()
    monkeypatch.setattr("mpvit.measurement.timing.time", clock)
    return clock


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def taking(self, units: int) -> Callable[[], None]:
        def call() -> None:
            self.now += units * UNIT

        return call


def test_a_sample_is_the_time_of_one_call_and_samples_fill_the_minimum_time_and_no_more(clock: Clock) -> None:
    (found,) = run({"case": clock.taking(1)}, min_time_s=126 * UNIT, memory=False)
    assert set(found.samples_s) == {UNIT}
    assert found.warmup_runs == 13  # a tenth of the time
    assert found.repetitions == 3  # 2 % of it, 2.52 units
    assert found.repetitions * len(found.samples_s) == 126
    assert clock.now == 1000 + (13 + 126) * UNIT


def test_two_seconds_are_measured_where_nothing_is_said(clock: Clock) -> None:
    (found,) = run({"case": clock.taking(128)}, memory=False)
    assert found.repetitions * sum(found.samples_s) == 2


@pytest.mark.parametrize(
    ("units", "min_time_s", "between_s"),
    [(1, 1e-6, (1e-3, 1e-3 + UNIT)), (1, 10, (0.02, 0.02 + UNIT)), (128, 10, (0.125, 0.125))],
    ids=["at least a millisecond", "at most 20", "one call"],
)
def test_a_sample_repeats_its_call_for_some_milliseconds(
    units: int, min_time_s: float, between_s: tuple[float, float], clock: Clock
) -> None:
    (found,) = run({"case": clock.taking(units)}, min_time_s=min_time_s, memory=False)
    assert between_s[0] <= found.repetitions * found.samples_s[0] <= between_s[1]


@pytest.mark.parametrize(("budget", "samples"), [(28, 5), (29, 5), (30, 5), (31, 6)])
def test_what_fits_in_the_budget_is_done_and_nothing_else(budget: int, samples: int, clock: Clock) -> None:
    """13 calls of warm-up, and 3 a sample."""
    (found,) = run({"case": clock.taking(1)}, min_time_s=126 * UNIT, budget_s=budget * UNIT, memory=False)
    assert (found.warmup_runs, len(found.samples_s), found.stopped) == (13, samples, BUDGET)
    assert clock.now <= 1000 + budget * UNIT


def test_so_it_is_in_the_warm_up(clock: Clock) -> None:
    (found,) = run({"case": clock.taking(1)}, min_time_s=126 * UNIT, budget_s=2 * UNIT, memory=False)
    assert (found.warmup_runs, found.samples_s, found.stopped) == (2, (), BUDGET)


def test_cases_are_warmed_up_first_and_then_take_turns() -> None:
    order: list[str] = []

    def noted(name: str) -> None:
        order.append(name)
        slow()

    found = run({name: partial(noted, name) for name in "abc"}, min_time_s=1e-6, memory=False)
    assert [(case.warmup_runs, case.repetitions) for case in found] == [(WARMUP_RUNS, 1)] * 3
    assert "".join(order[: 3 * WARMUP_RUNS]) == "aabbcc"
    rounds = "".join(order[3 * WARMUP_RUNS :])
    assert [rounds[i : i + 3] for i in range(0, len(rounds), 3)] == ["abc", "cba", "bca", "acb", "cab"]


def test_every_case_comes_before_every_other_equally_often() -> None:
    for cases in range(1, 6):
        orders = [round_order(cases, number) for number in range(2 * cases)]
        for one in range(cases):
            for other in range(one):
                assert sum(order.index(one) < order.index(other) for order in orders) == cases


def test_the_garbage_collector_is_off_in_samples_and_on_again() -> None:
    seen: set[bool] = set()
    run({"case": lambda: seen.add(gc.isenabled())}, min_time_s=1e-6, memory=False)
    assert seen == {False}
    assert gc.isenabled()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: MATRIX @ MATRIX.T, 4 * 1000 * 1000),
        (lambda: (MATRIX @ MATRIX.T).softmax(-1), 2 * 4 * 1000 * 1000),  # scores and their softmax at once
        (lambda: torch.empty(1000).sum() and None, 4 * 1000 + 4),
        (nothing, 0),
    ],
    ids=["matrix product", "softmax", "freed", "nothing"],
)
def test_peak_memory_is_what_the_allocator_held_at_once(call: Callable[[], object], expected: int) -> None:
    assert peak_bytes(call, CPU) == pytest.approx(expected, abs=16)
    (found,) = run({"case": call}, min_time_s=1e-6)
    assert found.peak_bytes == pytest.approx(expected, abs=16)


def test_what_is_freed_before_more_is_taken_does_not_add_up() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.empty(10_000)

    assert peak_bytes(one_after_the_other, CPU) == 40_000
    assert highest_sum([5, -5, 3, 3, -6]) == 6
    assert highest_sum([-5, 3]) == 0


def test_measuring_memory_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    program = "import torch; from mpvit.measurement.timing import run; run({'case': lambda: torch.ones(9)}, min_time_s=1e-6)"
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "failure",
    [
        lambda: torch.empty(10**15),
        lambda: bytearray(10**18),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")),
        lambda: (_ for _ in ()).throw(RuntimeError("std::bad_alloc")),
    ],
    ids=["torch", "python", "cuda", "library"],
)
def test_a_case_that_runs_out_of_memory_leaves_the_others(failure: Callable[[], object]) -> None:
    before, starved, after = run({"before": slow, "starved": failure, "after": slow}, min_time_s=0.01)
    assert starved.out_of_memory
    assert not starved.failed
    assert starved.samples_s == ()
    assert starved.median_s is None
    assert "\n" not in starved.error
    assert len(before.samples_s) >= MIN_SAMPLES
    assert len(after.samples_s) >= MIN_SAMPLES


def test_memory_that_runs_out_later_keeps_the_samples() -> None:
    calls = iter(range(10**6))

    def growing() -> None:
        slow()
        if next(calls) >= WARMUP_RUNS + 3:
            raise MemoryError

    (found,) = run({"growing": growing}, min_time_s=1e-6, memory=False)
    assert len(found.samples_s) == 3
    assert found.error == "out of memory"


def failing_in_the_call_that_measures_memory(error: Exception) -> Callable[[], None]:
    calls = iter(range(10**6))

    def call() -> None:
        slow()
        if next(calls) == WARMUP_RUNS:
            raise error

    return call


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("not enough memory"), OSError(28, "No space left on device")])
def test_where_the_record_of_memory_has_no_room_the_peak_is_unknown_and_the_rest_measured(error: Exception) -> None:
    (found,) = run({"case": failing_in_the_call_that_measures_memory(error)}, min_time_s=1e-6)
    assert (found.peak_bytes, found.error) == (None, "")
    assert len(found.samples_s) >= MIN_SAMPLES


def test_another_error_there_is_raised() -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run({"case": failing_in_the_call_that_measures_memory(RuntimeError("shapes do not fit"))}, min_time_s=1e-6)


def test_another_failure_of_a_case_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        run({"broken": lambda: 1 / 0})
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert error_text(RuntimeError("out of memory here\nsecond line")) == "out of memory: out of memory here"


def test_an_interrupt_keeps_what_was_measured() -> None:
    calls = iter(range(10**6))

    def interrupted() -> None:
        slow()
        if next(calls) >= WARMUP_RUNS + 3:
            raise KeyboardInterrupt

    first, second = run({"first": slow, "second": interrupted}, min_time_s=1e-6, min_samples=50, memory=False)
    assert len(second.samples_s) == 3
    assert len(first.samples_s) in (3, 4)
    assert first.stopped == second.stopped == INTERRUPTED
    assert first.interrupted
    assert gc.isenabled()


def test_the_budget_ends_a_run_and_says_so() -> None:
    start = time.perf_counter()
    found = run({"first": slow, "second": slow}, min_time_s=100, budget_s=0.2, memory=False)
    assert time.perf_counter() - start < 100
    assert [case.stopped for case in found] == [BUDGET, BUDGET]


@pytest.mark.parametrize("wrong", [{"min_time_s": 0}, {"min_time_s": float("nan")}, {"budget_s": -1}])
def test_times_must_be_above_0(wrong: dict[str, float]) -> None:
    ((name, seconds),) = wrong.items()
    with pytest.raises(UsageError, match=f"^{name} = {seconds}: must be a number of seconds above 0"):
        run({"case": nothing}, **wrong)  # type: ignore[arg-type]


def test_statistics_of_a_measurement() -> None:
    found = measurement(1.0, 2.0, 3.0, 4.0, 5.0)
    assert (found.median_s, found.quartiles_s) == (3.0, (2.0, 4.0))
    assert (measurement(7.0).median_s, measurement(7.0).quartiles_s) == (7.0, (7.0, 7.0))
    assert (measurement().median_s, measurement().quartiles_s, measurement().warnings) == (None, None, ())


def test_the_modified_z_score_of_a_known_sample() -> None:
    # median 10, median absolute deviation 1: 0.6745 · 6 = 4.05 is beyond 3.5, 0.6745 · 5 = 3.37 is not
    assert outlier_share([8.0, 9.0, 9.0, 10.0, 10.0, 11.0, 16.0]) == pytest.approx(1 / 7)
    assert outlier_share([8.0, 9.0, 9.0, 10.0, 10.0, 11.0, 15.0]) == 0
    assert outlier_share([1.0, 1.0, 1.0, 9.0]) == 0


def test_each_warning_has_its_cause_and_advice() -> None:
    steady = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99, 1.02, 0.98]
    assert measurement(*steady).warnings == ()
    assert measurement(*steady, 5.0, 6.0).warnings == ("outliers",)
    assert measurement(*steady[:4]).warnings == ("few_samples",)
    assert "slow_start" in measurement(2.0, 1.9, *steady).warnings
    assert measurement(*(1e-5 * s for s in steady), repetitions=1).warnings == ("short_samples",)
    assert not has_slow_start(steady)
    assert set(WARNINGS) == {"outliers", "few_samples", "slow_start", "short_samples"}
    assert all(": " in advice for advice in WARNINGS.values())

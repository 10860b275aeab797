"""Ratios, slopes and crossovers of synthetic latencies whose answers are known."""

from collections.abc import Callable

import numpy as np
import pytest

from mpvit.errors import UsageError
from mpvit.measurement.estimates import crossover, growth_exponent, independent_ratio, paired_ratio, plateau_end

SIZES = [2**k for k in range(6, 17)]
NOISE = 0.05


def noisy(value: float, random: np.random.Generator, count: int = 20) -> list[float]:
    return [value * float(np.exp(NOISE * sample)) for sample in random.standard_normal(count)]


def curve(latency: Callable[[int], float], seed: int = 0) -> list[list[float]]:
    random = np.random.default_rng(seed)
    return [noisy(latency(n), random) for n in SIZES]


@pytest.mark.parametrize("exponent", [1, 1.5, 2])
@pytest.mark.parametrize("overhead", [0, 3e-4], ids=["no plateau", "plateau"])
def test_a_slope_is_found_beyond_the_plateau(exponent: float, overhead: float) -> None:
    found = growth_exponent(SIZES, curve(lambda n: overhead + 1e-6 * n**exponent))
    assert found is not None
    assert found.exponent.estimate == pytest.approx(exponent, abs=0.05)
    assert found.exponent.low <= found.exponent.estimate <= found.exponent.high
    assert all(overhead <= 0.2 * 1e-6 * n**exponent for n in found.sizes)
    assert found.sizes == tuple(SIZES[-len(found.sizes) :])


def test_the_interval_of_a_slope_covers_it_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        found = growth_exponent(SIZES, curve(lambda n: 1e-6 * n, seed))
        assert found is not None
        hits += found.exponent.low <= 1 <= found.exponent.high
    assert hits >= 50  # 57 expected of 60 at 95 %


@pytest.mark.parametrize("unit", [1, 1e-3], ids=["seconds", "milliseconds"])
def test_the_plateau_ends_where_the_overhead_is_a_tenth(unit: float) -> None:
    """Of an overhead of 1 under N: 1 / 9 of the latency at N = 8, 1 / 17 at 16."""
    sizes = [1, 2, 4, 8, 16, 32, 64]
    assert plateau_end(sizes, [unit * (1 + n) for n in sizes]) == sizes.index(16)
    assert plateau_end(sizes, [unit * (9 + n**2) for n in sizes]) == sizes.index(16)  # 9 / 73 at 8, 9 / 265 at 16
    assert plateau_end(sizes, [unit * n**1.5 for n in sizes]) == 0
    assert plateau_end(sizes, [unit / n for n in sizes]) == len(sizes)


def test_without_noise_a_slope_is_exact() -> None:
    found = growth_exponent([1, 2, 4, 8], [[n**1.5] * 3 for n in (1, 2, 4, 8)])
    assert found is not None
    assert (found.exponent.estimate, found.exponent.low, found.exponent.high) == pytest.approx((1.5, 1.5, 1.5))
    assert found.sizes == (1, 2, 4, 8)
    assert growth_exponent([1, 2, 4], [[1.0], [2.0], [4.0]]) is not None  # three sizes are enough
    assert growth_exponent([1, 2], [[1.0], [2.0]]) is None


def test_the_median_of_the_slopes_between_every_two_points() -> None:
    """Of four points log2 y = 0, 4, 5, 6 over log2 x = 0, 1, 2, 3: 4, 2.5, 2, 1, 1, 1, whose median is 1.5."""
    found = growth_exponent([1, 2, 4, 8], [[2.0**k] for k in (0, 4, 5, 6)])
    assert found is not None
    assert found.exponent.estimate == pytest.approx(1.5)


def test_a_curve_that_never_leaves_its_plateau_has_no_slope() -> None:
    assert growth_exponent(SIZES, curve(lambda _: 1e-3)) is None
    assert growth_exponent(SIZES, curve(lambda n: 1e-3 + 1e-9 * n)) is None
    assert plateau_end(SIZES, [1.0] * len(SIZES)) == len(SIZES)


def test_one_wild_size_does_not_bend_a_slope() -> None:
    samples = curve(lambda n: 1e-6 * n)
    samples[5] = [8 * sample for sample in samples[5]]
    found = growth_exponent(SIZES, samples)
    assert found is not None
    assert found.exponent.estimate == pytest.approx(1, abs=0.1)


def test_a_crossover_is_found_where_it_was_put() -> None:
    quadratic, linear = curve(lambda n: 1e-9 * n * n, 1), curve(lambda n: 3e-6 * n, 2)
    found = crossover(SIZES, quadratic, linear)
    assert found is not None
    assert found.estimate == pytest.approx(3000, rel=0.05)
    assert found.low <= 3000 <= found.high
    assert crossover(SIZES, linear, quadratic) is None
    assert crossover(SIZES, curve(lambda n: 2e-6 * n), curve(lambda n: 1e-6 * n)) is None


def test_between_two_sizes_a_crossover_is_where_straight_lines_of_logarithms_meet() -> None:
    two = crossover([1, 4], [[1.0], [4.0]], [[2.0], [2.0]])
    bent = crossover([1, 2, 4], [[1.0], [1.0], [4.0]], [[2.0], [2.0], [2.0]])
    again = crossover([1, 2, 4, 8], [[4.0], [1.0], [4.0], [9.0]], [[2.0], [2.0], [2.0], [2.0]])  # the last one counts
    for found, expected in ((two, 2), (bent, 2 * 2**0.5), (again, 2 * 2**0.5)):
        assert found is not None
        assert (found.estimate, found.low, found.high) == pytest.approx((expected,) * 3)
    touching = crossover([1, 2, 4], [[1.0], [2.0], [3.0]], [[2.0], [2.0], [2.0]])
    assert touching is not None
    assert touching.estimate == pytest.approx(2)
    assert crossover([1, 2], [[1.0], [2.0]], [[2.0], [2.0]]) is None  # at the last size it is no slower


def test_an_interval_ends_at_the_first_size_where_noise_may_have_hidden_that_it_is_slower_there_too() -> None:
    found = crossover([2, 4, 8], [[0.9, 0.95, 1.2], [4.0] * 3, [16.0] * 3], [[1.0] * 3] * 3)
    assert found is not None
    assert found.low == pytest.approx(2)
    assert 2 < found.estimate < 4


def test_the_ends_of_an_interval_may_lie_between_other_sizes_than_the_crossover() -> None:
    """At N = 2 a resampled median is 2 with probability 7 / 27, and then the lines meet halfway before; else at 0.9, behind."""
    found = crossover([1, 2, 4], [[0.5] * 3, [0.9, 0.9, 2.0], [4.0] * 3], [[1.0] * 3] * 3)
    assert found is not None
    behind = 2 * 2 ** (np.log(1 / 0.9) / np.log(4 / 0.9))
    assert (found.low, found.estimate, found.high) == pytest.approx((2**0.5, behind, behind))


def test_the_interval_of_a_crossover_covers_it_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        found = crossover(SIZES, curve(lambda n: 1e-9 * n * n, seed), curve(lambda n: 2**21 * 1e-9 * n / 512, 1000 + seed))
        assert found is not None
        hits += found.low <= 4096 <= found.high
    assert hits >= 50


def test_an_interval_that_leaves_the_measured_sizes_ends_there() -> None:
    last = SIZES[-1]
    found = crossover(SIZES, curve(lambda n: 1e-9 * n * n), curve(lambda n: 0.995 * last * 1e-9 * n, 1))
    assert found is None or (found.high == pytest.approx(last) and found.low > SIZES[-3])


def test_a_paired_ratio_sees_through_drift_that_both_sides_share() -> None:
    hits, wider = 0, 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        drift = 1 + 0.5 * random.random(30)
        fast = drift * np.exp(NOISE * random.standard_normal(30))
        slow = 1.25 * drift * np.exp(NOISE * random.standard_normal(30))
        paired, independent = paired_ratio(slow.tolist(), fast.tolist()), independent_ratio(slow.tolist(), fast.tolist())
        hits += paired.low <= 1.25 <= paired.high
        wider += independent.high - independent.low > paired.high - paired.low
    assert hits >= 88  # 95 expected of 100
    assert wider >= 90


def test_ratios_of_exact_samples_are_exact() -> None:
    found = paired_ratio([2.0, 4.0, 6.0, 9.0], [1.0, 2.0, 3.0])
    assert (found.estimate, found.low, found.high, found.confidence) == (2.0, 2.0, 2.0, 0.95)
    assert independent_ratio([3.0, 3.0], [2.0]).estimate == 1.5
    assert independent_ratio([1.0, 2.0, 9.0], [4.0, 1.0, 2.0]).estimate == 1  # of the medians 2 and 2


def test_an_interval_is_the_middle_95_percent() -> None:
    """A resampled median of three is the least or the largest of 1, 2, 3 with probability 7 / 27 each, beyond both tails."""
    found = paired_ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0])
    assert (found.low, found.estimate, found.high) == (1, 2, 3)
    # of 1 000 samples, one wild: a median that the wild one has moved is rarer than 2.5 %
    samples = [1.0] * 999 + [9.0]
    assert (paired_ratio(samples, [1.0] * 1000).low, paired_ratio(samples, [1.0] * 1000).high) == (1, 1)


def test_the_same_samples_give_the_same_interval_and_leave_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    linear, square = curve(lambda n: 1e-6 * n), curve(lambda n: 1e-9 * n * n)
    random = np.random.default_rng(1)
    one, other = noisy(1, random, 301), noisy(2, random, 302)
    for estimate in (
        lambda: growth_exponent(SIZES, linear),
        lambda: crossover(SIZES, square, linear),
        lambda: paired_ratio(one, other),
        lambda: independent_ratio(one, other),
    ):
        assert estimate() == estimate()
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index] # noqa: NPY002


@pytest.mark.parametrize(
    ("sizes", "samples"),
    [([1], [[1.0]]), ([2, 1], [[1.0], [1.0]]), ([1, 2], [[1.0]]), ([1, 2], [[1.0], []])],
    ids=["one size", "descending", "samples missing", "no samples"],
)
def test_what_is_no_curve_is_refused(sizes: list[int], samples: list[list[float]]) -> None:
    with pytest.raises(UsageError, match=r"sizes = .*: must be at least two, ascending|no samples to compare"):
        growth_exponent(sizes, samples)


def test_a_ratio_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no samples") as caught:
        paired_ratio([], [1.0])
    assert "more time" in caught.value.hint
    with pytest.raises(UsageError, match="no samples"):
        independent_ratio([1.0], [])

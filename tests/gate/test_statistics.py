"""Laws of intervals: they are exact, and they contain the true median, whatever the noise of processes and slices."""

import math
import statistics
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate.statistics import MIN_SAMPLES, ConfidenceInterval, exact, interval_over_processes, median_interval

positive = st.floats(1e-3, 1e3)
short_sessions = st.lists(st.lists(positive, min_size=1, max_size=6), min_size=1, max_size=14)
# Sessions of few processes, each with enough slices for an interval of its own.
long_sessions = st.lists(st.lists(positive, min_size=MIN_SAMPLES, max_size=10), min_size=1, max_size=4)
sessions = short_sessions | long_sessions

# The interval of a median.


def heads_probabilities(n):
    """Return the probabilities of 0 to n heads in n throws, from Pascal's triangle."""
    row = [1]
    for _ in range(n):
        row = [1, *(a + b for a, b in pairwise(row)), 1]
    return [Fraction(ways, 2**n) for ways in row]


@pytest.mark.parametrize("confidence", ["0.5", "0.9", "0.95", "0.99", "0.999"])
def test_median_interval_is_the_narrowest_with_the_confidence(confidence):
    """The interval from the k-th smallest to the k-th largest misses if fewer than k of n coins fall on one side."""
    for n in range(1, 80):
        probabilities = heads_probabilities(n)
        missed = [2 * sum(probabilities[:k]) for k in range(n // 2 + 1)]
        k = max(k for k in range(n // 2 + 1) if missed[k] <= 1 - Fraction(confidence))
        interval = median_interval(range(1, n + 1), float(confidence))
        assert (interval.lower, interval.upper) == ((k, n + 1 - k) if k else (-math.inf, math.inf)), n
        assert interval.median == (n + 1) / 2


def test_median_interval_is_infinite_with_fewer_than_eight_numbers():
    assert median_interval(range(MIN_SAMPLES - 1)) == ConfidenceInterval(median=3, lower=-math.inf, upper=math.inf)
    assert median_interval(range(MIN_SAMPLES)) == ConfidenceInterval(median=3.5, lower=0, upper=7)
    assert MIN_SAMPLES == 8


@pytest.mark.parametrize("n", [1_000, 1_023, 1_024, 3_000])
def test_median_interval_of_many_numbers_is_near_the_normal_approximation(n):
    """A float overflows at 1,024 throws of a coin. A text that is read word by word has that many windows."""
    interval = median_interval(range(n))
    assert interval.upper - interval.lower == pytest.approx(2 * 2.5758 * math.sqrt(n) / 2, abs=2)


@given(st.lists(positive, min_size=1, max_size=30), st.randoms())
def test_median_interval_does_not_depend_on_the_order_and_contains_the_median(numbers, random):
    interval = median_interval(numbers)
    assert median_interval(random.sample(numbers, len(numbers))) == interval
    assert interval.lower <= interval.median <= interval.upper
    assert interval.median == statistics.median(numbers)


def test_exact_interval_has_no_width():
    assert exact(3.0) == ConfidenceInterval(median=3, lower=3, upper=3)
    assert exact(3.0).width == 0
    assert exact(3.0).is_exact
    assert ConfidenceInterval(median=2, lower=1, upper=4).width == 1.5
    assert not ConfidenceInterval(median=2, lower=1, upper=4).is_exact


# The interval of several processes.


@given(sessions, st.randoms())
def test_interval_over_processes_does_not_depend_on_the_order_of_processes_and_slices(ratios, random):
    mixed = [random.sample(process, len(process)) for process in random.sample(ratios, len(ratios))]
    assert interval_over_processes(mixed) == interval_over_processes(ratios)


@given(sessions, st.integers(-10, 10))
def test_interval_over_processes_scales_with_the_ratios(ratios, power):
    """The factor is a power of two, so that nothing is rounded."""
    interval, factor = interval_over_processes(ratios), 2.0**power
    scaled = interval_over_processes([[factor * ratio for ratio in process] for process in ratios])
    assert scaled == ConfidenceInterval(
        median=factor * interval.median, lower=factor * interval.lower, upper=factor * interval.upper
    )
    assert scaled.width == interval.width


@given(sessions, st.randoms())
def test_interval_over_processes_does_not_fall_if_ratios_rise(ratios, random):
    before = interval_over_processes(ratios)
    raised = [[ratio * random.choice([1, 1, 1.5, 100]) for ratio in process] for process in ratios]
    after = interval_over_processes(raised)
    assert before.lower <= after.lower
    assert before.median <= after.median
    assert before.upper <= after.upper


@given(sessions)
def test_interval_over_processes_uses_medians_of_enough_processes_and_else_the_hull(ratios):
    interval = interval_over_processes(ratios)
    medians = [statistics.median(process) for process in ratios]
    inside = [median_interval(process) for process in ratios]
    assert interval.median == statistics.median(medians)
    if len(ratios) >= MIN_SAMPLES:
        assert interval == median_interval(medians)
    else:
        assert interval.lower == min(process.lower for process in inside)
        assert interval.upper == max(process.upper for process in inside)


# Simulated sessions.

SESSIONS = 1_000
# With a true rate of 1 %, one simulation in 10,000 misses more often.
MAX_MISSES = SESSIONS * 0.01 + 3.9 * math.sqrt(SESSIONS * 0.01 * 0.99)


def normal(random, shape):
    return random.normal(size=shape)


def student(random, shape):
    return random.standard_t(2, size=shape)


def cauchy(random, shape):
    return random.standard_cauchy(size=shape)


def pareto(random, shape):
    return random.pareto(1.1, size=shape)


def simulate(noise, shift, drift, spikes, seed, shape):
    """Simulate the ratios of two models that are equally fast if nothing disturbs them.

    Args:
        noise: distribution of the time of a slice, in percent of it.
        shift: how much processes differ: the standard deviation of the logarithm of a process's ratio.
        drift: share by which the machine gets slower from the first slice to the last.
        spikes: share of slices in which the first model is 2 to 10 times slower.
        seed: of the random numbers.
        shape: sessions, processes, slices.

    Returns:
        Ratios of this shape.
    """
    random = np.random.default_rng(seed)
    _, workers, slices = shape
    place = np.arange(2 * workers * slices).reshape(workers, slices, 2)  # both models in turn, in mirrored orders
    place[:, 1::2] = place[:, 1::2, ::-1]
    slower = 1 + drift * place / place.size
    first, second = (slower[..., model] * np.maximum(0.2, 1 + 0.01 * noise(random, shape)) for model in (0, 1))
    hit = random.random(shape) < spikes
    first = np.where(hit, first * random.uniform(2, 10, shape), first)
    return np.exp(shift * random.normal(size=(*shape[:2], 1))) * first / second


def count_misses(ratios, truth):
    intervals = [interval_over_processes(session) for session in ratios.tolist()]
    return sum(not interval.lower <= truth <= interval.upper for interval in intervals)


@pytest.mark.parametrize(
    ("noise", "shift", "drift", "spikes", "workers", "slices"),
    [
        pytest.param(normal, 0.0, 0.0, 0.0, 12, 4, id="normal"),
        pytest.param(student, 0.01, 0.0, 0.0, 8, 4, id="student"),
        pytest.param(cauchy, 0.01, 0.0, 0.0, 12, 4, id="cauchy"),
        pytest.param(pareto, 0.01, 0.0, 0.0, 12, 12, id="pareto"),
        pytest.param(normal, 0.0, 1.0, 0.0, 8, 4, id="drift"),
        pytest.param(normal, 0.01, 0.0, 0.05, 12, 12, id="spikes"),
        pytest.param(normal, 0.05, 0.0, 0.0, 12, 12, id="processes differ by 5 %"),
        pytest.param(normal, 0.3, 0.0, 0.0, 8, 4, id="processes differ by 30 %"),
        pytest.param(student, 0.05, 0.5, 0.03, 12, 4, id="all at once"),
    ],
)
def test_interval_contains_the_true_ratio_in_99_of_100_sessions(noise, shift, drift, spikes, workers, slices):
    """The true ratio is the median over all possible processes. Spikes move it, but only a little."""
    all_processes = simulate(noise, shift, drift, spikes, 1, (10_000, workers, slices))
    truth = np.median(np.median(all_processes, axis=2))
    assert truth == pytest.approx(1, abs=0.0025)
    ratios = simulate(noise, shift, drift, spikes, 2, (SESSIONS, workers, slices))
    assert count_misses(ratios, truth) <= MAX_MISSES


@pytest.mark.parametrize("noise", [normal, student, cauchy, pareto])
def test_interval_of_few_processes_contains_the_true_ratio_if_processes_do_not_differ(noise):
    assert count_misses(simulate(noise, 0.0, 0.0, 0.0, 3, (SESSIONS, 3, 12)), 1.0) <= MAX_MISSES


def test_interval_of_pooled_slices_is_too_narrow_if_processes_differ():
    """More slices do not make up for that, so slices must not be pooled."""
    ratios = simulate(normal, 0.05, 0.0, 0.0, 4, (SESSIONS, 12, 12))
    pooled = [median_interval(session.ravel().tolist()) for session in ratios]
    assert sum(not interval.lower <= 1 <= interval.upper for interval in pooled) > 10 * MAX_MISSES
    assert count_misses(ratios, 1.0) <= MAX_MISSES

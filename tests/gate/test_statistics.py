"""Laws of intervals: they are exact, and they cover, whatever the noise of processes and slices is like."""

import math
import statistics
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmq.gate.statistics import (
    MIN_SAMPLES,
    ConfidenceInterval,
    binomial_interval,
    exact,
    interval_over_processes,
    median_interval,
)

SESSIONS = 1_000
positive = st.floats(1e-3, 1e3)
sessions = st.lists(st.lists(positive, min_size=1, max_size=6), min_size=1, max_size=14)
long = st.lists(
    st.lists(positive, min_size=MIN_SAMPLES, max_size=10), min_size=1, max_size=4
)  # with intervals inside each


def heads(n):
    """Return the probabilities of 0 to n heads, from Pascal's triangle."""
    row = [1]
    for _ in range(n):
        row = [1, *(a + b for a, b in pairwise(row)), 1]
    return [Fraction(ways, 2**n) for ways in row]


@pytest.mark.parametrize("confidence", ["0.5", "0.9", "0.95", "0.99", "0.999"])
def test_the_ends_are_the_innermost_that_enclose_the_median_with_the_confidence(confidence):
    """Of n numbers, the k-th from either end: it misses if fewer than k of n coins fall on one side."""
    for n in range(1, 80):
        tails = heads(n)
        missed = [2 * sum(tails[:k]) for k in range(n // 2 + 1)]
        k = max(k for k in range(n // 2 + 1) if missed[k] <= 1 - Fraction(confidence))
        found = median_interval(range(1, n + 1), float(confidence))
        assert (found.lower, found.upper) == ((k, n + 1 - k) if k else (-math.inf, math.inf)), n
        assert found.median == (n + 1) / 2


def test_eight_are_the_fewest_for_99_percent():
    assert median_interval(range(MIN_SAMPLES - 1)) == ConfidenceInterval(median=3, lower=-math.inf, upper=math.inf)
    assert median_interval(range(MIN_SAMPLES)) == ConfidenceInterval(median=3.5, lower=0, upper=7)
    assert MIN_SAMPLES == 8


def test_thousands_of_numbers_have_an_interval():
    """A text of a token a window has as many; near enough, it is the normal distribution's."""
    for n in (1_000, 1_023, 1_024, 3_000):
        found = median_interval(range(n))
        assert found.upper - found.lower == pytest.approx(2 * 2.5758 * math.sqrt(n) / 2, abs=2)


@given(st.lists(positive, min_size=1, max_size=30), st.randoms())
def test_the_order_of_the_numbers_is_no_matter(numbers, random):
    found = median_interval(numbers)
    assert median_interval(random.sample(numbers, len(numbers))) == found
    assert found.lower <= found.median <= found.upper
    assert found.median == statistics.median(numbers)


@given(sessions | long, st.randoms())
def test_the_order_of_workers_and_of_slices_is_no_matter(ratios, random):
    mixed = [random.sample(worker, len(worker)) for worker in random.sample(ratios, len(ratios))]
    assert interval_over_processes(mixed) == interval_over_processes(ratios)


@given(sessions | long, st.integers(-10, 10))
def test_an_interval_scales_with_its_numbers(ratios, power):
    """By a power of two, so that no rounding is in it."""
    found, factor = interval_over_processes(ratios), 2.0**power
    scaled = interval_over_processes([[factor * ratio for ratio in worker] for worker in ratios])
    assert scaled == ConfidenceInterval(
        median=factor * found.median, lower=factor * found.lower, upper=factor * found.upper
    )
    assert scaled.width == found.width


@given(sessions | long, st.randoms())
def test_no_end_and_no_median_falls_if_no_ratio_does(ratios, random):
    before = interval_over_processes(ratios)
    after = interval_over_processes(
        [[ratio * random.choice([1, 1, 1.5, 100]) for ratio in worker] for worker in ratios]
    )
    assert before.lower <= after.lower
    assert before.median <= after.median
    assert before.upper <= after.upper


@given(sessions | long)
def test_enough_workers_are_a_sample_of_medians_and_fewer_give_the_hull_of_what_is_inside_each(ratios):
    found, inside = interval_over_processes(ratios), [median_interval(worker) for worker in ratios]
    assert found.median == statistics.median(statistics.median(worker) for worker in ratios)
    if len(ratios) >= MIN_SAMPLES:
        assert found == median_interval([statistics.median(worker) for worker in ratios])
    else:
        assert found.lower == min(each.lower for each in inside)
        assert found.upper == max(each.upper for each in inside)


def normal(random, shape):
    return random.normal(size=shape)


def student(random, shape):
    return random.standard_t(2, size=shape)


def cauchy(random, shape):
    return random.standard_cauchy(size=shape)


def pareto(random, shape):
    return random.pareto(1.1, size=shape)


def simulated(noise, shift, drift, spikes, seed, shape):
    """Return ratios of shape (sessions, workers, slices), of two arms that are equally fast when nothing disturbs.

    Args:
        noise: of a slice of an arm, in percent of its time.
        shift: of a process, of its ratio: the standard deviation of a logarithm.
        drift: how much slower the machine gets from the first reading to the last, as a share.
        spikes: the share of slices in which one arm is 2 to 10 times slower, the same one always.
        seed: of all that.
        shape: of the result.
    """
    random = np.random.default_rng(seed)
    _, workers, each = shape
    reading = np.arange(2 * workers * each).reshape(workers, each, 2)  # two in turn, in mirrored orders
    reading[:, 1::2] = reading[:, 1::2, ::-1]
    slower = 1 + drift * reading / reading.size
    arms = [slower[..., arm] * np.maximum(0.2, 1 + 0.01 * noise(random, shape)) for arm in (0, 1)]
    hit = random.random(shape) < spikes
    arms[0] = np.where(hit, arms[0] * random.uniform(2, 10, shape), arms[0])
    return np.exp(shift * random.normal(size=(*shape[:2], 1))) * arms[0] / arms[1]


disturbances = pytest.mark.parametrize(
    ("noise", "shift", "drift", "spikes"),
    [
        (normal, 0.0, 0.0, 0.0),
        (student, 0.01, 0.0, 0.0),
        (cauchy, 0.01, 0.0, 0.0),
        (pareto, 0.01, 0.0, 0.0),
        (normal, 0.0, 1.0, 0.0),
        (normal, 0.01, 0.0, 0.05),
        (normal, 0.05, 0.0, 0.0),
        (normal, 0.3, 0.0, 0.0),
        (student, 0.05, 0.5, 0.03),
    ],
    ids=["normal", "student", "cauchy", "pareto", "drift", "spikes", "shifts of 5 %", "shifts of 30 %", "all at once"],
)


def misses(ratios, truth):
    found = [interval_over_processes(session) for session in ratios.tolist()]
    return sum(not each.lower <= truth <= each.upper for each in found)


# More would be seen of a true 1 % in one of 10,000 samples.
TOLERATED = SESSIONS * 0.01 + 3.9 * math.sqrt(SESSIONS * 0.01 * 0.99)


@disturbances
@pytest.mark.parametrize(("workers", "each"), [(12, 4), (8, 4), (12, 12)])
def test_the_interval_covers_the_ratio_in_99_of_100_sessions(workers, each, noise, shift, drift, spikes):
    """The truth is what half of all processes are above; spikes move that, and only by a little."""
    disturbed = (noise, shift, drift, spikes)
    everyone = simulated(*disturbed, 1, (10_000, workers, each))
    truth = np.median(np.median(everyone, axis=2))
    assert truth == pytest.approx(1, abs=0.0025)
    assert misses(simulated(*disturbed, 2, (SESSIONS, workers, each)), truth) <= TOLERATED


@pytest.mark.parametrize("noise", [normal, student, cauchy, pareto])
def test_fewer_workers_cover_where_processes_do_not_differ(noise):
    assert misses(simulated(noise, 0.0, 0.0, 0.0, 3, (SESSIONS, 3, 12)), 1.0) <= TOLERATED


def test_more_slices_do_not_make_up_for_processes_that_differ():
    """With slices pooled, the interval would be too narrow: the misses of what a session must not do."""
    ratios = simulated(normal, 0.05, 0.0, 0.0, 4, (SESSIONS, 12, 12))
    pooled = [median_interval(session.ravel().tolist()) for session in ratios]
    assert sum(not each.lower <= 1 <= each.upper for each in pooled) > 10 * TOLERATED
    assert misses(ratios, 1.0) <= TOLERATED


@pytest.mark.parametrize(
    ("count", "of", "lower", "upper"),
    [
        (0, 60, 0.0, 0.05963),
        (3, 60, 0.01043, 0.13924),
        (60, 60, 0.94037, 1.0),
        (1, 2, 0.01258, 0.98742),
        (5, 10, 0.18709, 0.81291),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(count, of, lower, upper):
    """Of published tables, and where there is a formula: 1 - 0.025 ** (1 / 60) for none of 60."""
    assert binomial_interval(count, of) == pytest.approx((lower, upper), abs=2e-5)


@settings(max_examples=40)
@given(st.integers(1, 300), st.data(), st.sampled_from([0.9, 0.95, 0.99]))
def test_each_end_of_a_shares_interval_leaves_half_of_the_rest(of, data, confidence):
    count = data.draw(st.integers(0, of))
    lower, upper = binomial_interval(count, of, confidence)
    ways = [math.lgamma(of + 1) - math.lgamma(i + 1) - math.lgamma(of - i + 1) for i in range(of + 1)]

    def probability(of_these, p):
        return sum(math.exp(ways[i] + i * math.log(p) + (of - i) * math.log1p(-p)) for i in of_these)

    assert 0 <= lower <= count / of <= upper <= 1
    assert lower == 0 or probability(range(count, of + 1), lower) == pytest.approx((1 - confidence) / 2, rel=1e-6)
    assert upper == 1 or probability(range(count + 1), upper) == pytest.approx((1 - confidence) / 2, rel=1e-6)
    assert (lower == 0, upper == 1) == (count == 0, count == of)


def test_what_is_not_noisy_has_no_width():
    assert exact(3.0) == ConfidenceInterval(median=3, lower=3, upper=3)
    assert exact(3.0).width == 0
    assert ConfidenceInterval(median=2, lower=1, upper=4).width == 1.5

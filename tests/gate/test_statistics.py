"""Laws of the interval of a median: it is exact, and the narrowest with its confidence."""

import math
import statistics
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmq.gate.statistics import ConfidenceInterval, exact, median_interval

positive = st.floats(1e-3, 1e3)


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
    assert median_interval(range(7)) == ConfidenceInterval(median=3, lower=-math.inf, upper=math.inf)
    assert median_interval(range(8)) == ConfidenceInterval(median=3.5, lower=0, upper=7)


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

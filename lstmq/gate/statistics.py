"""How far a median can be trusted: :func:`median_interval` of numbers, :func:`over_workers` of a session's workers."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

CONFIDENCE = 0.99
MIN_SAMPLES = 8  # the fewest numbers whose smallest and largest enclose their median with a confidence of 99 %


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """A median, and the ends between which the true one lies with the stated confidence."""

    median: float
    lower: float
    upper: float

    @property
    def width(self) -> float:
        """From end to end, as a share of the median."""
        return (self.upper - self.lower) / self.median


def exact(number: float) -> ConfidenceInterval:
    """Return what is not noisy as an interval of no width."""
    return ConfidenceInterval(median=number, lower=number, upper=number)


def median_interval(numbers: Sequence[float], confidence: float = CONFIDENCE) -> ConfidenceInterval:
    """Return the median and its exact order-statistic interval, whatever the distribution of the numbers.

    The k-th smallest and the k-th largest of n independent numbers miss the true median only if fewer than k of them
    fall on one side of it, as likely as fewer than k heads in n throws of a coin (H. A. David, H. N. Nagaraja: Order
    Statistics, 3rd edition, 2003, section 7.1). With too few numbers for the confidence, both ends are infinite.

    Args:
        numbers: at least one, in any order.
        confidence: the least that the interval is to have, between 0 and 1.
    """
    ordered, n = sorted(numbers), len(numbers)
    k = _rank(n, confidence)
    ends = (ordered[k - 1], ordered[n - k]) if k else (-math.inf, math.inf)
    return ConfidenceInterval(median=statistics.median(ordered), lower=ends[0], upper=ends[1])


@cache
def _rank(n: int, confidence: float) -> int:
    """Return the largest k of which the k-th smallest and the k-th largest enclose the median so surely, or 0."""
    may_miss = (1 - Fraction(str(confidence))) * 2**n  # of as many outcomes: exact, however many numbers there are
    fewer, k = 0, 0  # outcomes of fewer than k heads
    while 2 * (fewer + math.comb(n, k)) <= may_miss:
        fewer += math.comb(n, k)
        k += 1
    return k


def interval_over_processes(ratios: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> ConfidenceInterval:
    """Combine the slices' ratios of several workers: fresh processes, each a little faster or slower than the others.

    Their difference does not shrink with more slices, so the workers' medians are the sample: their median is the
    estimate, and their own order-statistic interval holds for any spread between processes and within. It takes
    :data:`ENOUGH` workers. Fewer give the hull of the intervals inside each, which speaks of these processes alone.

    Args:
        ratios: by worker, then by slice; no worker without any.
        confidence: as for :func:`median_interval`.
    """
    between = median_interval([statistics.median(worker) for worker in ratios], confidence)
    if math.isfinite(between.lower):
        return between
    inside = [median_interval(worker, confidence) for worker in ratios]
    lower, upper = min(worker.lower for worker in inside), max(worker.upper for worker in inside)
    return ConfidenceInterval(median=between.median, lower=lower, upper=upper)


def binomial_interval(count: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of the probability of what was seen ``count`` times in ``of``."""
    tail = (1 - confidence) / 2

    def at_most(k: int, p: float) -> float:
        return math.fsum(math.comb(of, i) * p**i * (1 - p) ** (of - i) for i in range(k + 1))

    def solve(k: int, target: float) -> float:  # at_most falls as p grows
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(k, middle) > target else (low, middle)
        return low

    return (solve(count - 1, 1 - tail) if count else 0.0, solve(count, tail) if count < of else 1.0)

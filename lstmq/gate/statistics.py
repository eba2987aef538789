"""Medians and their confidence intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

CONFIDENCE = 0.99
MIN_SAMPLES = 8  # with fewer numbers, no interval has 99 % confidence


@dataclass(frozen=True, kw_only=True)
class ConfidenceInterval:
    """A median, and the interval that contains the true median with the stated confidence.

    Attributes:
        median: the estimate.
        lower: the lower end of the interval.
        upper: the upper end of the interval.
    """

    median: float
    lower: float
    upper: float

    @property
    def width(self) -> float:
        """The width of the interval, as a share of the median."""
        return (self.upper - self.lower) / self.median

    @property
    def is_exact(self) -> bool:
        """Whether the interval has no width: the figure is not noisy."""
        return self.lower == self.upper


def exact(number: float) -> ConfidenceInterval:
    """Return a figure without noise as an interval without width."""
    return ConfidenceInterval(median=number, lower=number, upper=number)


def median_interval(numbers: Sequence[float], confidence: float = CONFIDENCE) -> ConfidenceInterval:
    """Return the median and its exact order-statistic interval, which holds for any distribution.

    The interval from the k-th smallest to the k-th largest of n independent numbers misses the true median only if
    fewer than k numbers fall on one side of it. That is as likely as fewer than k heads in n throws of a coin.
    Source: H. A. David, H. N. Nagaraja: Order Statistics, 3rd edition, 2003, section 7.1.

    Args:
        numbers: at least one, in any order.
        confidence: between 0 and 1. If there are too few numbers for it, both ends are infinite.
    """
    ordered, n = sorted(numbers), len(numbers)
    k = _rank(n, confidence)
    lower, upper = (ordered[k - 1], ordered[n - k]) if k else (-math.inf, math.inf)
    return ConfidenceInterval(median=statistics.median(ordered), lower=lower, upper=upper)


@cache
def _rank(n: int, confidence: float) -> int:
    """Return the largest k whose k-th smallest and k-th largest number enclose the median, or 0 if there is none."""
    # How many of the 2**n outcomes may have fewer than k heads. As many again have fewer than k tails.
    allowed = (1 - Fraction(str(confidence))) * 2**n // 2  # an integer, which is exact for any n
    outcomes, k = 1, 0  # outcomes with at most k heads
    while outcomes <= allowed:
        k += 1
        outcomes += math.comb(n, k)
    return k


def interval_over_processes(ratios: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> ConfidenceInterval:
    """Combine the ratios of several processes, each of which is a little faster or slower than the others.

    More slices do not reduce the difference between processes. So the sample is the median of each process, and the
    interval is the order-statistic interval of those medians. It needs :data:`MIN_SAMPLES` processes. With fewer, the
    result is the hull of the intervals inside each process, which describes these processes only.

    Args:
        ratios: by process, then by slice. No process is empty.
        confidence: as for :func:`median_interval`.
    """
    between = median_interval([statistics.median(process) for process in ratios], confidence)
    if math.isfinite(between.lower):
        return between
    inside = [median_interval(process, confidence) for process in ratios]
    lower, upper = min(interval.lower for interval in inside), max(interval.upper for interval in inside)
    return ConfidenceInterval(median=between.median, lower=lower, upper=upper)

"""Medians, their confidence intervals, and planned looks at them."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

CONFIDENCE = 0.99


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


@dataclass(frozen=True, kw_only=True)
class Looks:
    """When a session looks at a noisy figure, and how much each look may err.

    A session that looks at an interval again and again until it clears its limit errs more often than the interval
    says. So the looks are planned, and the error is shared out: look number i gets i parts of it, because later looks
    use more blocks. Figures of the same session share the error equally.
    Source: K. K. G. Lan, D. L. DeMets: Discrete sequential boundaries for clinical trials, Biometrika 70, 1983. The
    shares simply add up here (Bonferroni), which is stricter than their boundaries.

    Attributes:
        blocks: number of blocks at each look, in ascending order.
        figures: number of figures that share the error.
        error: probability that the interval of any figure, at any look, misses the true median, if all blocks are
            independent. Blocks of one process are a little alike, so it is half of what the gate promises.

    Example:
        >>> looks = Looks(blocks=(24, 48, 96))
        >>> [round(looks.confidence(look), 5) for look in range(3)]
        [0.99917, 0.99833, 0.9975]
    """

    blocks: tuple[int, ...]
    figures: int = 1
    error: float = (1 - CONFIDENCE) / 2

    def __post_init__(self) -> None:
        if not self.blocks or self.blocks[0] < 1 or list(self.blocks) != sorted(set(self.blocks)):
            numbers = ", ".join(map(str, self.blocks))
            raise ValueError(f"expected looks after ascending numbers of blocks, such as 24, 48, 96, found {numbers}")

    def confidence(self, look: int) -> float:
        """Return the confidence of the interval at a look, counted from 0."""
        parts = len(self.blocks) * (len(self.blocks) + 1) // 2
        return 1 - self.error / self.figures * (look + 1) / parts

    @property
    def can_settle(self) -> bool:
        """Whether the last look has enough blocks for a finite interval."""
        return _rank(self.blocks[-1], self.confidence(len(self.blocks) - 1)) > 0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The ratios of a noisy figure, and the looks at them.

    Attributes:
        blocks: the median ratio of each block, in the order of measuring.
        looks: when to look. Looks that need more blocks than there are were not taken.
    """

    blocks: Sequence[float]
    looks: Looks

    def intervals(self) -> Iterator[ConfidenceInterval]:
        """Yield the interval at each look. Before the first look, yield one infinite interval."""
        taken = [blocks for blocks in self.looks.blocks if blocks <= len(self.blocks)]
        for look, blocks in enumerate(taken):
            yield median_interval(self.blocks[:blocks], self.looks.confidence(look))
        if not taken:
            yield ConfidenceInterval(median=statistics.median(self.blocks), lower=-math.inf, upper=math.inf)

    def settle(self, is_settled: Callable[[ConfidenceInterval], bool]) -> ConfidenceInterval:
        """Return the interval at the first look that settles the question, or at the last look that was taken."""
        for interval in self.intervals():
            if is_settled(interval):
                break
        return interval


Figure = ConfidenceInterval | Sample
"""A figure to judge: exact, or noisy with looks."""

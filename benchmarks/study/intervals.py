"""The interval of a probability, from how often an event was seen."""

import math


def binomial_interval(count: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact (Clopper-Pearson) interval of a probability.

    Args:
        count: number of trials with the event.
        trials: number of trials.
        confidence: between 0 and 1.
    """
    tail = (1 - confidence) / 2

    def at_most(k: int, p: float) -> float:
        return math.fsum(math.comb(trials, i) * p**i * (1 - p) ** (trials - i) for i in range(k + 1))

    def solve(k: int, target: float) -> float:  # at_most falls as p grows
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(k, middle) > target else (low, middle)
        return low

    return (solve(count - 1, 1 - tail) if count else 0.0, solve(count, tail) if count < trials else 1.0)

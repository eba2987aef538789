"""How fast several functions work, in turn: :func:`measure_rates`."""

import time
from collections.abc import Callable, Mapping

Work = Callable[[int], float]
"""Works so many times, and returns how much it did, in whatever unit."""


def measure_rates(
    works: Mapping[str, Work],
    clock: Callable[[], float],
    *,
    seconds: float,
    rounds: int,
    at_most: float,
    at_least: int = 1,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return how much each function did per second, round by round.

    In a round, each function works twice without a break. Only the second time counts, when what it reads is in the
    caches. The next round is in reverse order. A slow moment of the machine affects the rates of one round alike, so
    divide rates of the same round, and take the median of the quotients.

    Args:
        works: functions by name. Each does the same every time.
        clock: returns seconds, such as the CPU time of the thread.
        seconds: how long a function works at a time, about. It works at least once.
        rounds: number of rounds.
        at_most: seconds after which no new round begins.
        at_least: number of rounds that are measured however long they take.
        now: returns the seconds for ``at_most``.

    Example:
        >>> from lstmq.comparison import measure_rates
        >>> elapsed = [0.0]
        >>> def work(times):  # takes a quarter of a second each time
        ...     elapsed[0] += times / 4
        ...     return times
        >>> measure_rates({"work": work}, lambda: elapsed[0], seconds=1, rounds=2, at_most=60)
        {'work': [4.0, 4.0]}
    """
    start = now()
    times = {name: _times(work, clock, seconds) for name, work in works.items()}
    rates: dict[str, list[float]] = {name: [] for name in works}
    order = list(works)
    for number in range(rounds):
        if number >= at_least and now() - start > at_most:
            break
        for name in order:
            works[name](times[name])
            before = clock()
            amount = works[name](times[name])
            rates[name].append(amount / max(clock() - before, 1e-9))
        order.reverse()
    return rates


def _times(work: Work, clock: Callable[[], float], seconds: float) -> int:
    """Return how often a function must work for that many seconds. Doubles the number until it takes a quarter."""
    times = 1
    while True:
        before = clock()
        work(times)
        elapsed = max(clock() - before, 1e-9)
        if elapsed >= seconds / 4:
            return max(1, round(times * seconds / elapsed))
        times *= 2

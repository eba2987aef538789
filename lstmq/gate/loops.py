"""Two functions timed in turn in one process, with the looks of a session: :func:`time_in_turn`."""

import statistics
from collections.abc import Callable

from lstmq.gate.statistics import ConfidenceInterval, Looks, Sample

WARM_UP_PAIRS = 2  # pairs that do not count
Round = Callable[[int], object]


def time_in_turn(
    target: Round,
    reference: Round,
    clock: Callable[[], float],
    *,
    pairs: int,
    looks: Looks,
    is_settled: Callable[[ConfidenceInterval], bool],
) -> tuple[list[float], Sample]:
    """Time two functions, and look at the seconds of the first over those of the second as often as planned.

    Args:
        target: takes the number of the pair, counted from 0.
        reference: likewise. The two take turns in running first.
        clock: returns seconds.
        pairs: number of pairs in a block.
        looks: when to look.
        is_settled: called with the interval at each look. The timing ends when it is true.

    Returns:
        The seconds of the target, pair by pair, and the sample of ratios.

    Example:
        >>> from itertools import count
        >>> ticks = count()
        >>> looks = Looks(blocks=(12, 24))
        >>> seconds, sample = time_in_turn(
        ...     lambda _: next(ticks), lambda _: None, lambda: next(ticks), pairs=2, looks=looks,
        ...     is_settled=lambda interval: interval.lower > 1.5,
        ... )
        >>> len(seconds), len(sample.blocks), sample.blocks[0]
        (24, 12, 2.0)
    """
    seconds: list[float] = []
    blocks: list[float] = []

    def run_pair(number: int) -> float:
        elapsed = {}
        for function in (reference, target) if number % 2 else (target, reference):
            start = clock()
            function(number)
            elapsed[function] = clock() - start
        seconds.append(elapsed[target])
        return elapsed[target] / elapsed[reference]

    for number in range(WARM_UP_PAIRS):
        run_pair(number)
    seconds.clear()
    for planned in looks.blocks:
        while len(blocks) < planned:
            first = WARM_UP_PAIRS + len(blocks) * pairs
            blocks.append(statistics.median(run_pair(number) for number in range(first, first + pairs)))
        sample = Sample(blocks=blocks, looks=looks)
        if is_settled([*sample.intervals()][-1]):
            break
    return seconds, sample

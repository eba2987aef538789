"""Times several engines on one module, in turn: :func:`measure`."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from engines import ENGINES, Run
from rows import Row
from torch import Tensor

from lstmq.comparison import measure_rates

SECONDS, AT_MOST = 0.04, 12.0  # of one engine in a round; of all rounds of a row
MOST_ERROR = 0.25  # of an output, as a share of the norm of float32's. It finds wrong graphs, and not rounding


@dataclass(frozen=True)
class Timed:
    """The seconds of one engine, round by round."""

    seconds: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def show(self, unit: float) -> str:
        """Return the median and the quartiles. ``unit`` is in seconds."""
        low, middle, high = (s / unit for s in statistics.quantiles(self.seconds, n=4, method="inclusive"))
        digits = 3 if middle < 1 else 2 if middle < 10 else 1
        return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"

    def over(self, other: "Timed") -> float:
        """Return the median of the quotients of the same round."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def measure(runs: Mapping[str, Run], rounds: int, clock: Callable[[], float] = time.process_time) -> dict[str, Timed]:
    """Return the seconds of functions that each run a module once."""
    works = {name: partial(run_often, run) for name, run in runs.items()}
    with torch.inference_mode():
        rates = measure_rates(works, clock, seconds=SECONDS, rounds=rounds, at_most=AT_MOST, at_least=3)
    return {name: Timed([1 / rate for rate in found]) for name, found in rates.items()}


def run_often(run: Run, times: int) -> int:
    for _ in range(times):
        run()
    return times


def make_runs(row: Row, engines: Sequence[str]) -> dict[str, Run]:
    """Return what runs a row, by engine.

    Raises:
        ValueError: if an engine computes something else than float32.
    """
    made = {name: ENGINES[name](row.module.eval(), *row.arguments) for name in engines}
    runs = {name: run for name, run in made.items() if run is not None}
    with torch.inference_mode():
        expected = first_tensor(runs["float32"]())
        for name, run in runs.items():
            error = float((first_tensor(run()) - expected).norm() / expected.norm())
            if not error <= MOST_ERROR:
                raise ValueError(f"{row.name}: expected float32's output from {name}, found an error of {error:.0%}")
    return runs


def first_tensor(output: object) -> Tensor:
    while isinstance(output, (tuple, list)):
        output = output[0]
    return torch.as_tensor(output)

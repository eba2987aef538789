"""What a session plans and records, as types that are saved and read back."""

import statistics
from dataclasses import dataclass, field

from lstmq.gate.protocol import Described, Hello, Loaded
from lstmq.quantization import FLOAT32

FLOAT32_COPY = "float32 again"  # the float32 model again, elsewhere in memory: it shows how noisy the machine is
Seconds = list[list[float | None]]
"""Seconds by process and slice. ``None`` where the model did not read the slice."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a session measures. All of it is fixed before the first slice.

    Attributes:
        schemes: keys of :data:`lstmq.SCHEMES`.
        workers: number of fresh processes for each environment, one after the other.
        slices: number of slices that each process reads with every model.
        quantized_slices: number of further slices that each process reads with the quantized models only. The
            comparison with another environment needs only those models, and float32 would take most of the time.
        tokens: length of a slice, in steps.
        bptt: longest window, in steps.
        threads: number of threads that torch uses. With one thread, the clock is the CPU time of the process, which
            stays on one processor.
        engine: torch's int8 engine, as for :func:`lstmq.quantize`.
        seed: determines which slices are read, and in which order.
        columns: number of columns of the stream. A session fills it in.
    """

    schemes: tuple[str, ...]
    workers: int = 8
    slices: int = 4
    quantized_slices: int = 0
    tokens: int = 100
    bptt: int = 25
    threads: int = 1
    engine: str | None = None
    seed: int = 0
    columns: int = 1

    def __post_init__(self) -> None:
        for name in ("workers", "slices", "tokens", "bptt", "threads", "columns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.quantized_slices < 0:
            raise ValueError(f"quantized_slices must be at least 0, found {self.quantized_slices}")

    @property
    def clock(self) -> str:
        """The clock that ratios are computed from: ``cpu`` or ``wall``."""
        return "cpu" if self.threads == 1 else "wall"


@dataclass(frozen=True, kw_only=True)
class EnvironmentRecording(Hello, Loaded, Described):
    """What the first process of one environment answered, and the seconds of all its processes.

    Attributes:
        seconds: by model, on the clock of the plan.
        wall: wall time by model, in seconds.
    """

    seconds: dict[str, Seconds] = field(default_factory=dict)
    wall: dict[str, Seconds] = field(default_factory=dict)

    def copy_ratios(self) -> list[list[float]]:
        """Return the seconds of float32 over the seconds of its copy, by process and slice."""
        return ratios(self.seconds[FLOAT32], self.seconds[FLOAT32_COPY])

    def us_per_token(self, model: str, plan: Plan) -> float:
        """Return the median over processes of the median slice, in microseconds per token and column."""
        medians = [statistics.median(t for t in process if t is not None) for process in self.seconds[model]]
        return 1e6 * statistics.median(medians) / (plan.tokens * plan.columns)


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Everything that a session measured.

    Attributes:
        plan: what was planned.
        slices: by process, the first step of each slice, in the order of reading.
        here: the environment that runs the session.
        there: the other environment, if there is one.
    """

    plan: Plan
    slices: list[list[int]]
    here: EnvironmentRecording
    there: EnvironmentRecording | None = None

    @property
    def environments(self) -> dict[str, EnvironmentRecording]:
        """The environments by name: ``here``, and ``there`` if there is another."""
        return {"here": self.here} | ({"there": self.there} if self.there else {})


def ratios(numerators: Seconds, denominators: Seconds) -> list[list[float]]:
    """Divide seconds by seconds, process by process and slice by slice, where both models read the slice."""
    return [
        [a / b for a, b in zip(*process, strict=True) if a is not None and b is not None]
        for process in zip(numerators, denominators, strict=True)
    ]

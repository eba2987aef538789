"""What a session plans and records, as types that are saved and read back."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lstmq.gate.protocol import Described, Hello, Loaded
from lstmq.gate.statistics import Looks, Sample
from lstmq.quantization import FLOAT32

FLOAT32_COPY = "float32 again"  # the float32 model again, elsewhere in memory: it shows how noisy the machine is
LOOKS = (24, 48, 96)  # blocks; benchmarks/study says how often a session ends after each
AGAINST_SLICES = 30  # of a block, if there is another environment
MIN_SLICE = 25  # steps of a slice; short slices in turn are less noisy than long ones, see docs/gate.md
MAX_WORDS = 8
Seconds = list[list[float | None]]
"""Seconds by process and slice. ``None`` where the model did not read the slice."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a session measures. All of it is fixed before the first slice.

    A session runs fresh processes, one after the other in each environment. A process reads blocks of slices. The
    median ratio of a block is one number of a sample; a session looks at its samples after planned numbers of blocks,
    and measures on only what is not settled.

    Attributes:
        schemes: keys of :data:`lstmq.SCHEMES`.
        looks: numbers of blocks after which the session looks at its figures. The last one is the most it measures.
        blocks: number of blocks that each process reads. Each look is a multiple of it.
        slices: number of slices in a block.
        float32_slices: number of slices, at the start of each block, that float32 reads too. The comparison with
            another environment needs only the quantized models, and float32 would take most of the time.
        figures: number of noisy figures that share the error of a wrong verdict.
        tolerance: share by which a scheme may be slower here than in the other environment.
        tokens: length of a slice, in steps.
        bptt: longest window, in steps.
        threads: number of threads that torch uses. With one thread, the clock is the CPU time of the process, which
            stays on one processor.
        engine: torch's int8 engine, as for :func:`lstmq.quantize`.
        seed: determines which slices are read, and in which order.
        columns: number of columns of the stream. A session fills it in.
        words: schemes that are also timed word by word.
    """

    schemes: tuple[str, ...]
    looks: tuple[int, ...] = LOOKS
    blocks: int = 6
    slices: int = 6
    float32_slices: int = 6
    figures: int = 1
    tolerance: float = 0.02
    tokens: int = MIN_SLICE
    bptt: int = 25
    threads: int = 1
    engine: str | None = None
    seed: int = 0
    columns: int = 1
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("blocks", "slices", "float32_slices", "figures", "tokens", "bptt", "threads", "columns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        if self.float32_slices > self.slices:
            raise ValueError(f"float32_slices must be at most slices, {self.slices}, found {self.float32_slices}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be between 0 and 1, found {self.tolerance}")
        if any(look % self.blocks for look in self.planned_looks.blocks):
            looks = ", ".join(map(str, self.looks))
            raise ValueError(f"expected looks after multiples of {self.blocks} blocks, found {looks}")

    @property
    def planned_looks(self) -> Looks:
        """The looks at every noisy figure."""
        return Looks(blocks=self.looks, figures=self.figures)

    @property
    def max_processes(self) -> int:
        """The largest number of processes in each environment."""
        return self.looks[-1] // self.blocks

    def sample(self, ratios: Iterable[Sequence[float | None]]) -> Sample:
        """Return the medians of blocks, as a sample.

        Args:
            ratios: by process and slice, ``None`` where there is none. Blocks without any ratio are left out.
        """
        slices = [ratio for process in ratios for ratio in process]
        blocks = [slices[start : start + self.slices] for start in range(0, len(slices), self.slices)]
        measured = [[ratio for ratio in block if ratio is not None] for block in blocks]
        return Sample(blocks=[statistics.median(block) for block in measured if block], looks=self.planned_looks)

    @property
    def words_read(self) -> int:
        """The number of words that a model reads one by one, once in each block."""
        return min(MAX_WORDS, self.tokens)

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
        words: seconds by model, process and block, for reading words one by one; only if the plan says so.
    """

    seconds: dict[str, Seconds] = field(default_factory=dict)
    wall: dict[str, Seconds] = field(default_factory=dict)
    words: dict[str, Seconds] = field(default_factory=dict)

    def us_per_token(self, model: str, plan: Plan) -> float:
        """Return the median slice, in microseconds per token and column."""
        seconds = [time for process in self.seconds[model] for time in process if time is not None]
        return 1e6 * statistics.median(seconds) / (plan.tokens * plan.columns)

    def us_per_word(self, model: str, plan: Plan) -> float:
        """Return the median block, in microseconds per word when the model reads one word at a time."""
        seconds = [time for process in self.words[model] for time in process if time is not None]
        return 1e6 * statistics.median(seconds) / plan.words_read


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Everything that a session measured.

    Attributes:
        plan: what was planned.
        slices: by process, the first step of each slice, in the order of reading.
        here: the environment that runs the session.
        there: the other environment, if there is one.
        undecided: for each look that was taken, the figures that were not settled after it.
    """

    plan: Plan
    slices: list[list[int]]
    here: EnvironmentRecording
    there: EnvironmentRecording | None = None
    undecided: list[list[str]] = field(default_factory=list)

    @property
    def environments(self) -> dict[str, EnvironmentRecording]:
        """The environments by name: ``here``, and ``there`` if there is another."""
        return {"here": self.here} | ({"there": self.there} if self.there else {})

    def speedup(self, scheme: str) -> Sample:
        """Return the seconds of float32 over the seconds of a scheme, here."""
        return self.plan.sample(ratios(self.here.seconds[FLOAT32], self.here.seconds[scheme]))

    def word_speedup(self, scheme: str) -> Sample:
        """Return the same when both read one word at a time."""
        words = ratios(self.here.words[FLOAT32], self.here.words[scheme])
        blocks = [ratio for process in words for ratio in process if ratio is not None]
        return Sample(blocks=blocks, looks=self.plan.planned_looks)

    def slower(self, model: str) -> Sample:
        """Return the seconds of a model here over its seconds there.

        Raises:
            ValueError: if there is no other environment.
        """
        if self.there is None:
            raise ValueError("there is no other environment")
        return self.plan.sample(ratios(self.here.seconds[model], self.there.seconds[model]))

    def over_copy(self, environment: EnvironmentRecording) -> Sample:
        """Return the seconds of float32 over the seconds of its copy."""
        return self.plan.sample(ratios(environment.seconds[FLOAT32], environment.seconds[FLOAT32_COPY]))


def ratios(numerators: Seconds, denominators: Seconds) -> list[list[float | None]]:
    """Divide seconds by seconds, process by process and slice by slice. ``None`` where a model did not read."""
    return [
        [a / b if a is not None and b is not None else None for a, b in zip(*process, strict=True)]
        for process in zip(numerators, denominators, strict=True)
    ]

"""Fake workers for sessions, because a real one imports torch first."""

from dataclasses import dataclass, field

from lstmq.gate.protocol import PROTOCOL, Described, Hello, Loaded, Timed
from lstmq.gate.recording import FLOAT32_COPY, Plan
from lstmq.gate.session import measure
from lstmq.quantization.schemes import FLOAT32
from lstmq.workload.subject import Workload
from runs import MACHINE, make_subject

WORKLOAD = Workload(speed=make_subject(), loss=make_subject(12, 50, 1))
STEPS = len(WORKLOAD.speed.stream)
UNQUANTIZED = (FLOAT32, FLOAT32_COPY)
ONE_LOOK = Plan(schemes=("int8",), looks=(1,), blocks=1, slices=4, float32_slices=4)


@dataclass(frozen=True)
class Reading:
    """A slice that a fake worker read. Each reading takes a millisecond more than the one before it."""

    environment: str
    worker: int
    model: str
    first: int
    seconds: float
    warms_up: bool  # whether the model reads for the first time since it was loaded or moved


@dataclass
class FakeEnvironment:
    """Starts fake workers that add to a common list of readings, and to a common list of waiting workers."""

    name: str
    readings: list[Reading]
    waiting: list["FakeWorker"]
    started: int = 0
    alive: set[int] = field(default_factory=set)
    workload: str = ""
    words: list[tuple[int, str]] = field(default_factory=list)

    def start(self, processor=-1):
        self.started += 1
        return FakeWorker(self, self.started - 1)


class FakeWorker:
    hello = Hello(protocol=PROTOCOL, lstmq="0.2.0", location="/lstmq")

    def __init__(self, environment, number):
        self.environment, self.number = environment, number
        self.cold = set()

    def __enter__(self):
        self.environment.alive.add(self.number)
        return self

    def __exit__(self, *_):
        self.environment.alive.remove(self.number)

    def send(self, do, **arguments):
        assert self not in self.environment.waiting
        later = all(worker.number == self.number + 1 for worker in self.environment.waiting)
        assert do not in ("time", "move") or later  # the next workers may load, and no other
        self.environment.waiting.append(self)
        self.request = do, arguments

    def receive(self, answer, extra_seconds=0.0):
        self.environment.waiting.remove(self)
        do, arguments = self.request
        result = getattr(self, do)(**arguments)
        assert isinstance(result, answer)
        return result

    def ask(self, answer, do, **arguments):
        self.send(do, **arguments)
        return self.receive(answer)

    def load(self, *, plan, **_):
        self.models = [*UNQUANTIZED, *plan.schemes]
        self.cold.update(self.models)
        return Loaded(machine=MACHINE, models=self.models, absent={}, pinned=True)

    def describe(self, **_):
        return Described(sizes={}, fidelity={}, quantized_share={}, models=self.models, absent={})

    def move(self, *, model):
        assert model in self.models
        self.cold.add(model)
        return {}

    def time(self, *, model, first, tokens):
        assert model in self.models
        seconds = (len(self.environment.readings) + 1) / 1_000
        reading = Reading(self.environment.name, self.number, model, first, seconds, model in self.cold)
        self.environment.readings.append(reading)
        self.cold.discard(model)
        return Timed(cpu=seconds, wall=2 * seconds)

    def read_words(self, *, model, count):
        assert model in self.models
        assert self.environment.name == "here"
        self.environment.words.append((self.number, model))
        return Timed(cpu=count * (1e-3 if model == FLOAT32 else 2.5e-4), wall=1.0)


def read_all(recording):
    """Return that every figure is undecided, so that a session takes all its looks."""
    return {"all figures": (*UNQUANTIZED, *recording.plan.schemes)}


def measure_fake(plan, names=("here", "there"), undecided=read_all, on_block=None):
    """Return the recording of a session of fake workers, and the readings of each worker that are in it."""
    readings, waiting = [], []
    environments = [FakeEnvironment(name, readings, waiting) for name in names]
    recording = measure(WORKLOAD, plan, environments, undecided, on_block)
    assert not waiting
    processes = len(recording.slices)
    assert all(environment.started == processes and not environment.alive for environment in environments)
    kept = [reading for reading in readings if not reading.warms_up]
    assert set(all_times(recording, "wall")) == {2 * reading.seconds for reading in kept}
    return recording, [[reading for reading in kept if reading.worker == number] for number in range(processes)]


def all_times(recording, clock):
    by_model = [getattr(environment, clock) for environment in recording.environments.values()]
    processes = [process for models in by_model for model in models.values() for process in model]
    return [time for process in processes for time in process if time is not None]

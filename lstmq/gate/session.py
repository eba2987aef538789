"""A session of paired timing: fresh processes read the same slices in turn. :func:`measure` runs one."""

import os
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from lstmq.gate.processes import Environment, SessionError, WorkerProcess
from lstmq.gate.protocol import Described, Loaded, SubjectFile, Timed
from lstmq.gate.recording import FLOAT32_COPY, EnvironmentRecording, Plan, Recording
from lstmq.gate.transfer import SubjectFiles, dump_subjects
from lstmq.quantization import FLOAT32
from lstmq.workload import Workload

MOVE_SLICES = 12  # slices after which models move: their place in memory changes their speed by 1 to 2 %
SECONDS_PER_TOKEN = 0.05  # extra time for a worker to read a whole text
Undecided = Callable[[Recording], Mapping[str, Collection[str]]]
"""Takes a recording, and returns the figures that are not settled yet, each with the models that it needs."""
OnBlock = Callable[[str], object]
Models = list[tuple[str, str]]  # pairs of environment and model


def measure(
    workload: Workload,
    plan: Plan,
    environments: Sequence[Environment],
    undecided: Undecided,
    on_block: OnBlock | None = None,
) -> Recording:
    """Run a session.

    Starting a process takes as long as reading its blocks. So the next one loads meanwhile on another processor, if
    there is one and the next look is not due.

    Args:
        workload: the models and streams that every worker reads.
        plan: what to measure.
        environments: ``here``, and ``there`` to compare with another environment.
        undecided: called at each planned look, and at no other time. The session reads on with the models that the
            figures need, and ends when there are none.
        on_block: called after each block, with a few words that say where the session is.

    Raises:
        ValueError: if the stream is shorter than a slice.
        SessionError: in one line, which worker failed and how.
        OSError: if the models cannot be written to files for the workers.
    """
    length = len(workload.speed.stream)
    if length < plan.tokens:
        raise ValueError(f"expected a stream of at least {plan.tokens} steps, found {length}")
    plan = replace(plan, columns=workload.speed.stream.columns)
    with dump_subjects(workload) as files, ExitStack() as running:
        session = _Session(plan, environments, files, length, workload.loss.stream.tokens, running)
        for number in range(plan.max_processes):
            for place in session.read_process(number):
                if on_block:
                    on_block(f"process {number + 1}, block {place + 1} of {plan.blocks}")
            if (number + 1) * plan.blocks in plan.looks:
                figures = undecided(session.recording)
                session.recording.undecided.append([*figures])
                session.wanted = {model for models in figures.values() for model in models}
                if not session.wanted:
                    break
    return session.recording


class _Started(NamedTuple):
    """The workers with one number, which were told to load. Closing the stack ends them."""

    plan: Plan
    workers: dict[str, WorkerProcess]
    stack: ExitStack


@dataclass
class _Session:
    """A session that is being measured.

    Attributes:
        plan: what is measured.
        environments: as for :func:`measure`.
        files: the subjects of the workload.
        length: steps of the stream for speed.
        loss_tokens: tokens of the stream for the loss.
        running: ends all workers when the session ends, however it does.
        recording: what was measured so far; set by the first process.
        wanted: the models that are still read.
        ahead: the next workers, if they load while others read.
    """

    plan: Plan
    environments: Sequence[Environment]
    files: SubjectFiles
    length: int
    loss_tokens: int
    running: ExitStack
    recording: Recording = field(init=False)
    wanted: set[str] = field(init=False)
    ahead: _Started | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.wanted = {FLOAT32, FLOAT32_COPY, *self.plan.schemes}
        self._generator = random.Random(self.plan.seed)  # noqa: S311 - for an order, not for a secret

    def read_process(self, number: int) -> Iterator[int]:
        """Start a fresh process in each environment, let all models read their blocks, and end the processes.

        Yields the place of each block after all models have read it.
        """
        plan, workers, stack = self.ahead or self._start(number)
        with stack:
            loaded = {name: worker.receive(Loaded) for name, worker in workers.items()}
            self.ahead = self._start(number + 1, ahead=True) if self._may_load_ahead(number) else None
            if number == 0:
                self.recording = self._describe(workers, loaded)
            models = self._models_to_read(loaded)
            slices = _draw_slices(plan, self.length, self._generator)
            self.recording.slices.append(slices)
            for name, environment in self.recording.environments.items():
                for model in environment.models:
                    for seconds in (environment.seconds, environment.wall):
                        nothing: list[float | None] = [None] * len(slices)
                        seconds.setdefault(model, []).append([] if (name, model) in models else nothing)
            yield from self._read_slices(workers, models, slices)

    def _start(self, number: int, *, ahead: bool = False) -> _Started:
        """Start the workers with this number, and let them load the models that are wanted now.

        Both load side by side. Workers that load ahead stay on their own processor from the start, so that they do not
        disturb the workers that read on another one.
        """
        plan = replace(self.plan, schemes=tuple(scheme for scheme in self.plan.schemes if scheme in self.wanted))
        processor = _processor(plan, number)
        ordered = self.environments if number % 2 else self.environments[::-1]  # so that only the environment differs
        stack = self.running.enter_context(ExitStack())
        workers = {
            environment.name: stack.enter_context(environment.start(processor if ahead else -1))
            for environment in ordered
        }
        for name, worker in workers.items():
            subject = self._subject(self.files.speed, name)
            worker.send("load", subject=subject, plan=plan, processor=processor)
        return _Started(plan, workers, stack)

    def _subject(self, file: SubjectFile, environment: str) -> SubjectFile:
        """Return a subject as an environment builds it, which may have its own code for it."""
        workloads = {environment.name: environment.workload for environment in self.environments}
        return replace(file, made_by=workloads[environment], own_code=True) if workloads[environment] else file

    def _may_load_ahead(self, number: int) -> bool:
        """Return whether the next workers have a processor of their own, and are needed whatever a look finds."""
        processors = {_processor(self.plan, number), _processor(self.plan, number + 1)}
        return len(processors) > 1 and (number + 1) * self.plan.blocks not in self.plan.looks

    def _describe(self, workers: Mapping[str, WorkerProcess], loaded: Mapping[str, Loaded]) -> Recording:
        """Let each worker evaluate the model for the loss. Return a recording without seconds."""
        recordings = {}
        for name, worker in workers.items():
            worker.send("describe", subject=self._subject(self.files.loss, name))
        for name, worker in workers.items():
            described = worker.receive(Described, SECONDS_PER_TOKEN * self.loss_tokens)
            answers = (worker.hello, loaded[name], described)
            recordings[name] = EnvironmentRecording(
                **{key: value for one in answers for key, value in vars(one).items()}
            )
        return Recording(plan=self.plan, slices=[], here=recordings["here"], there=recordings.get("there"))

    def _models_to_read(self, loaded: Mapping[str, Loaded]) -> Models:
        """Return the models that a process reads: those that are wanted, and were there in the first process."""
        models = []
        for name, environment in self.recording.environments.items():
            for model in environment.models:
                if model in self.wanted:
                    if model not in loaded[name].models:
                        reason = loaded[name].absent.get(model, "it is gone")
                        raise SessionError(f"{model} worked in the first process {name}, and then did not: {reason}")
                    models.append((name, model))
        return models

    def _read_slices(
        self, workers: Mapping[str, WorkerProcess], models: Models, slices: Sequence[int]
    ) -> Iterator[int]:
        """Let all models read one slice, then all the next. Yields the place of each block at its end."""
        plan, order, moved = self.plan, list(models), 0
        for place, first in enumerate(slices):
            in_block = place % plan.slices
            reading = {
                pair for pair in models if in_block < plan.float32_slices or pair[1] not in (FLOAT32, FLOAT32_COPY)
            }
            if place == 0 or (in_block == 0 and place >= moved + MOVE_SLICES):
                moved = place
                for name, model in models:
                    if place:
                        workers[name].ask(dict, "move", model=model)
                    workers[name].ask(Timed, "time", model=model, first=0, tokens=plan.tokens)  # only warms caches up
            # Each order is followed by its mirror image, so that each model reads before each other as often as after.
            if place % 2:
                order.reverse()
            else:
                self._generator.shuffle(order)
            for name, model in order:
                timed = None
                if (name, model) in reading:
                    timed = workers[name].ask(Timed, "time", model=model, first=first, tokens=plan.tokens)
                environment = self.recording.environments[name]
                environment.seconds[model][-1].append(getattr(timed, plan.clock, None))
                environment.wall[model][-1].append(getattr(timed, "wall", None))
            if in_block == plan.slices - 1:
                self._read_words(workers["here"], [model for name, model in models if name == "here"])
                yield place // plan.slices

    def _read_words(self, worker: WorkerProcess, models: Sequence[str]) -> None:
        """Let float32 and the schemes that the plan names read words one by one. The first one changes with each block.

        Not all may be among the models, because some are settled.
        """
        here = self.recording.here
        schemes = [scheme for scheme in self.plan.words if scheme in here.models]
        names, seconds = [FLOAT32, *schemes] if schemes else [], here.words
        for name in names:
            seconds.setdefault(name, []).extend([] for _ in range(len(self.recording.slices) - len(seconds[name])))
        first = len(seconds[FLOAT32][-1]) % len(names) if names else 0
        for name in names[first:] + names[:first]:
            timed = worker.ask(Timed, "read_words", model=name, count=self.plan.words_read) if name in models else None
            seconds[name][-1].append(getattr(timed, self.plan.clock, None))


def _draw_slices(plan: Plan, length: int, generator: random.Random) -> list[int]:
    """Return the first steps of the slices, in random order. No slice repeats before all were drawn."""
    starts = range(0, length - plan.tokens + 1, plan.tokens)
    count = plan.blocks * plan.slices
    slices: list[int] = []
    while len(slices) < count:
        slices += generator.sample(starts, len(starts))
    return slices[:count]


def _processor(plan: Plan, number: int) -> int:
    """Return the processor for the workers with this number, or -1 for any.

    The workers of a pair share one processor. On two processors, one of them could have a busier neighbour: two equal
    processes differed by up to 30 % where the scheduler put them, and by 1 to 2 % on one processor.
    """
    if plan.threads > 1 or not hasattr(os, "sched_getaffinity"):
        return -1
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number % len(allowed)]

"""A session of paired timing: fresh processes read the same slices in turn. :func:`measure` runs one."""

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from lstmq.gate.processes import Environment, WorkerProcess
from lstmq.gate.protocol import Described, Loaded, SubjectFile, Timed
from lstmq.gate.recording import FLOAT32_COPY, EnvironmentRecording, Plan, Recording
from lstmq.gate.transfer import dump_subjects
from lstmq.quantization import FLOAT32
from lstmq.workload import Workload

BLOCK_SLICES = 16  # slices after which models move: their place in memory changes their speed by 1 to 2 %
QUANTIZED_PER_SLICE = 15  # quantized slices for each slice of all models, if there is another environment
SECONDS_PER_TOKEN = 0.05  # extra time for a worker to read a whole text
OnSlice = Callable[[str], object]


def measure(
    workload: Workload, plan: Plan, environments: Sequence[Environment], on_slice: OnSlice | None = None
) -> Recording:
    """Run a session.

    Args:
        workload: the models and streams that every worker reads.
        plan: what to measure.
        environments: ``here``, and ``there`` to compare with another environment.
        on_slice: called after every model has read a slice, with a few words that say where the session is.

    Raises:
        ValueError: if the stream is shorter than a slice.
        SessionError: in one line, which worker failed and how.
        OSError: if the models cannot be written to files for the workers.
    """
    length = len(workload.speed.stream)
    if length < plan.tokens:
        raise ValueError(f"expected a stream of at least {plan.tokens} steps, found {length}")
    plan = replace(plan, columns=workload.speed.stream.inputs.shape[1])
    generator = random.Random(plan.seed)  # noqa: S311 - for an order, not for a secret
    slices: list[list[int]] = []
    recordings: dict[str, EnvironmentRecording] = {}
    with dump_subjects(workload) as (speed, loss):
        for number in range(plan.workers):
            with ExitStack() as stack:
                # Both load side by side. Which one starts first alternates, so that only the environment differs.
                ordered = environments if number % 2 else environments[::-1]
                workers = {environment.name: stack.enter_context(environment.start()) for environment in ordered}
                for worker in workers.values():
                    worker.send("load", subject=speed, plan=plan, processor=_processor(plan, number))
                loaded = {name: worker.receive(Loaded) for name, worker in workers.items()}
                if number == 0:
                    seconds = SECONDS_PER_TOKEN * workload.loss.stream.tokens
                    for name in (environment.name for environment in environments):
                        recordings[name] = _describe(workers[name], loaded[name], loss, seconds)
                slices.append(_draw_slices(plan, length, generator))
                for place in _read_slices(recordings, workers, loaded, plan, slices[-1], generator):
                    if on_slice:
                        on_slice(f"worker {number + 1} of {plan.workers}, slice {place + 1} of {len(slices[-1])}")
    return Recording(plan=plan, slices=slices, here=recordings["here"], there=recordings.get("there"))


def _describe(worker: WorkerProcess, loaded: Loaded, loss: SubjectFile, extra_seconds: float) -> EnvironmentRecording:
    """Let a worker evaluate the model for the loss, and return all that it answered as a recording without seconds."""
    worker.send("describe", subject=loss)
    described = worker.receive(Described, extra_seconds)
    return EnvironmentRecording(**vars(worker.hello), **vars(loaded), **vars(described))


def _read_slices(
    recordings: Mapping[str, EnvironmentRecording],
    workers: Mapping[str, WorkerProcess],
    loaded: Mapping[str, Loaded],
    plan: Plan,
    slices: Sequence[int],
    generator: random.Random,
) -> Iterator[int]:
    """Let one worker of each environment read its slices: all models read one slice, then all read the next.

    Yields the place of each slice after all models have read it.
    """
    models = [(name, model) for name, answer in loaded.items() for model in answer.models]
    for name, model in models:
        for times in (recordings[name].seconds, recordings[name].wall):
            times.setdefault(model, []).append([])
    order = list(models)
    for place, first in enumerate(slices):
        reading = [pair for pair in models if place < plan.slices or pair[1] not in (FLOAT32, FLOAT32_COPY)]
        if place % BLOCK_SLICES == 0:
            for name, model in reading:
                if place:
                    workers[name].ask(dict, "move", model=model)
                workers[name].ask(Timed, "time", model=model, first=0, tokens=plan.tokens)  # only warms the caches up
        # Each order is followed by its mirror image, so that each model reads before each other as often as after it.
        if place % 2:
            order.reverse()
        else:
            generator.shuffle(order)
        for name, model in order:
            timed = None
            if (name, model) in reading:
                timed = workers[name].ask(Timed, "time", model=model, first=first, tokens=plan.tokens)
            recordings[name].seconds[model][-1].append(getattr(timed, plan.clock, None))
            recordings[name].wall[model][-1].append(getattr(timed, "wall", None))
        yield place


def _draw_slices(plan: Plan, length: int, generator: random.Random) -> list[int]:
    """Return the first steps of the slices, in random order. No slice repeats before all were drawn."""
    starts = range(0, length - plan.tokens + 1, plan.tokens)
    count = plan.slices + plan.quantized_slices
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

"""A session of paired timing: fresh processes are asked for the same slices in turn. :func:`measure` runs one."""

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lstmq.gate.processes import Environment, WorkerProcess
from lstmq.gate.transfer import dump_subjects
from lstmq.gate.worker import FLOAT32_COPY
from lstmq.quantization import FLOAT32
from lstmq.workload import Workload

BLOCK_SLICES = 16  # slices after which models move: where their weights lie makes them faster or slower by about 1 %
QUANTIZED_PER_SLICE = (
    15  # times as many slices, quantized only, against another environment: int8 against int8 is the tight question
)
SECONDS_PER_TOKEN = 0.05  # seconds more for each token of a text that is read in one go


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a session does; all of it is fixed before the first slice.

    Attributes:
        schemes: keys of :data:`lstmq.SCHEMES`.
        workers: fresh processes of each environment, one after the other.
        pairs: slices that each of them reads with every model.
        more: further slices that they read quantized only. Against another environment, int8 over there is the
            question, and float32 most of the time.
        tokens: length of a slice, in steps.
        bptt: longest window, in steps.
        threads: that torch computes on; with one, its CPU time is the clock and it stays on one processor.
        engine: of the int8 schemes, as for :func:`lstmq.quantize`.
        seed: of the order of slices and models.
        columns: of the stream, read side by side; a session fills them in.
    """

    schemes: tuple[str, ...]
    workers: int = 8
    pairs: int = 4
    more: int = 0
    tokens: int = 100
    bptt: int = 25
    threads: int = 1
    engine: str | None = None
    seed: int = 0
    columns: int = 1

    def __post_init__(self) -> None:
        """See that there is something to do."""
        for name in ("workers", "pairs", "tokens", "bptt", "threads", "columns"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")

    @property
    def clock(self) -> str:
        """``cpu`` or ``wall``: the seconds that ratios are of."""
        return "cpu" if self.threads == 1 else "wall"


Seconds = dict[str, dict[str, list[list[float | None]]]]


@dataclass(kw_only=True)
class Recording:
    """All that a session measured, in what ``json`` can write.

    Attributes:
        plan: as it was, with the clock's name.
        environments: by name: hello, machine, whether on one processor, sizes in bytes, absent schemes, fidelity by
            scheme.
        slices: by worker, the first step of each slice, in the order in which they were read.
        seconds: by environment, model, worker and slice, on the plan's clock; ``None`` where float32 did not read.
        wall: likewise, wall time.
    """

    plan: dict[str, Any]
    environments: dict[str, dict[str, Any]] = field(default_factory=dict)
    slices: list[list[int]] = field(default_factory=list)
    seconds: Seconds = field(default_factory=dict)
    wall: Seconds = field(default_factory=dict)


def measure(
    workload: Workload,
    plan: Plan,
    environments: Sequence[Environment],
    on_slice: Callable[[str], object] | None = None,
) -> Recording:
    """Run a session.

    Args:
        workload: whose model and stream all workers are given.
        plan: what to do.
        environments: ``here``, and ``there`` if it is to be compared with.
        on_slice: called when every model has read a slice, with a few words on where the session is.

    Raises:
        SessionError: in one line, which worker failed and how.
        OSError: if the models cannot be written down for the workers.
    """
    length = len(workload.speed.stream)
    if length < plan.tokens:
        raise ValueError(f"expected at least {plan.tokens} steps to read slices of, found {length}")
    generator = random.Random(plan.seed)  # noqa: S311 - an order, not a secret
    columns = workload.speed.stream.inputs.shape[1]
    result = Recording(plan=asdict(replace(plan, columns=columns)) | {"clock": plan.clock})
    with dump_subjects(workload) as parcels:
        for number in range(plan.workers):
            with ExitStack() as stack:
                # Both start at once, and take turns in being the first: all that may differ is to be the environment.
                starting = environments if number % 2 else environments[::-1]
                asked = {each.name: stack.enter_context(WorkerProcess(each)) for each in starting}
                load = {key: result.plan[key] for key in ("schemes", "engine", "threads", "bptt")}
                for worker in asked.values():
                    worker.send(do="load", subject=parcels["speed"], cpu=_processor(plan, number), **load)
                loaded = {name: worker.answer() for name, worker in asked.items()}
                if number == 0:
                    for name in (each.name for each in environments):
                        worker = asked[name]
                        worker.send(do="describe", subject=parcels["loss"])
                        told = worker.answer(SECONDS_PER_TOKEN * workload.loss.stream.tokens)
                        result.environments[name] = {**worker.hello, **loaded[name], **told}
                _read_slices(result, plan, asked, loaded, generator, length, on_slice)
    return result


def _read_slices(
    result: Recording,
    plan: Plan,
    asked: Mapping[str, WorkerProcess],
    loaded: Mapping[str, Mapping[str, Any]],
    generator: random.Random,
    length: int,
    on_slice: Callable[[str], object] | None,
) -> None:
    """Let one worker of each environment read its slices: all arms one slice, then all arms the next."""
    arms = [(name, arm) for name, told in loaded.items() for arm in told["models"]]
    for name, arm in arms:
        for times in (result.seconds, result.wall):
            times.setdefault(name, {}).setdefault(arm, []).append([])
    result.slices.append(_draw_slices(plan, length, generator))
    order = list(arms)
    for place, first in enumerate(result.slices[-1]):
        reading = [(name, arm) for name, arm in arms if place < plan.pairs or arm not in (FLOAT32, FLOAT32_COPY)]
        if place % BLOCK_SLICES == 0:
            for name, arm in reading:
                if place:
                    asked[name].ask(do="move", model=arm)
                asked[name].ask(do="time", arm=arm, first=0, tokens=plan.tokens)  # does not count: it fills caches
        # Every order is followed by its mirror image, so that each arm is before each other as often as after it.
        if place % 2:
            order.reverse()
        else:
            generator.shuffle(order)
        for name, arm in order:
            took: dict[str, Any] = {}
            if (name, arm) in reading:
                took = asked[name].ask(do="time", arm=arm, first=first, tokens=plan.tokens)
            result.seconds[name][arm][-1].append(took.get(plan.clock))
            result.wall[name][arm][-1].append(took.get("wall"))
        if on_slice:
            on_slice(f"worker {len(result.slices)} of {plan.workers}, slice {place + 1} of {plan.pairs + plan.more}")


def _draw_slices(plan: Plan, length: int, generator: random.Random) -> list[int]:
    """Return first tokens of slices, in random order; none comes twice before all have come once."""
    starts = range(0, length - plan.tokens + 1, plan.tokens)
    slices: list[int] = []
    while len(slices) < plan.pairs + plan.more:
        slices += generator.sample(starts, len(starts))
    return slices[: plan.pairs + plan.more]


def _processor(plan: Plan, number: int) -> int:
    """Return the processor for the workers with this number, or -1 for any.

    Those of a pair share one: of two, one may have a busy neighbour in the hardware. (Measured: two equal processes,
    each where the scheduler put it, differed by up to 30 %; on one processor by 1 %.)
    """
    if plan.threads > 1 or not hasattr(os, "sched_getaffinity"):
        return -1
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[number % len(allowed)]

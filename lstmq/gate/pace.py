"""How much of a workload a session reads, so that models with slow steps end in minutes: :func:`choose_pace`."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from lstmq.gate.recording import MIN_SLICE, Plan
from lstmq.model import copy_module, evaluate
from lstmq.workload import Workload

PROBE_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much a session reads.

    Attributes:
        steps: length of a slice.
        slices: number of slices in a block.
        loss_steps: most steps to take the loss on; ``None`` for all.
    """

    steps: int
    slices: int = Plan.slices
    loss_steps: int | None = None


def choose_pace(workload: Workload, bptt: int, clock: Callable[[], float] = time.perf_counter) -> Pace:
    """Return how much a session reads, from how long float32 takes for a step.

    There are only four paces, so that sessions of the same model have the same one and can be compared.

    Args:
        workload: what the session measures.
        bptt: longest window, in steps.
        clock: returns seconds.
    """
    stream = workload.speed.stream
    steps = min(PROBE_STEPS, len(stream))
    model = copy_module(workload.speed.model)  # a forward may change what the state dict of the model holds
    evaluate(model, stream.slice(0, steps), bptt)  # warms up
    start = clock()
    evaluate(model, stream.slice(0, steps), bptt)
    seconds = (clock() - start) / steps
    if seconds < 0.015:  # a word of the tutorial's model takes a millisecond
        return Pace(steps=min(bptt * math.ceil(MIN_SLICE / bptt), len(stream)))
    if seconds < 0.05:
        return Pace(steps=steps, slices=4, loss_steps=500)
    if seconds < 0.2:  # a step may be an utterance
        return Pace(steps=1, slices=4, loss_steps=200)
    return Pace(steps=1, slices=1, loss_steps=50)


def cap_loss(workload: Workload, steps: int | None) -> Workload:
    """Return the workload with at most so many steps for the loss."""
    loss = workload.loss
    if steps is None or len(loss.stream) <= steps:
        return workload
    origin = f"{loss.origin}, the first {steps} steps"
    return replace(workload, loss=replace(loss, stream=loss.stream.slice(0, steps), origin=origin))

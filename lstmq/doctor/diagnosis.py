"""Everything that ``lstmq doctor`` finds out: :func:`diagnose`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from lstmq.doctor.kernels import Kernels, measure_kernels
from lstmq.doctor.system import System, describe_system
from lstmq.quantization.native import missing_kernels

AGREEMENT = 0.1  # share by which two loops that do the same may differ


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A machine, what it can do at most, and how near the kernels come to that.

    Attributes:
        system: the machine as this process sees it.
        kernels: the kernels, and what bounds them.
        faults: what must not be: wrong answers, or a kernel that is faster than its instructions allow.
        notes: what may make a model slow, or these figures uncertain.
    """

    system: System
    kernels: Kernels
    faults: Sequence[str]
    notes: Sequence[str]


def diagnose(at_most: float = 4.0) -> Diagnosis:
    """Examine this machine. torch uses one thread meanwhile.

    Args:
        at_most: seconds after which no new round of measurements begins.
    """
    threads = torch.get_num_threads()
    system = describe_system(threads)
    torch.set_num_threads(1)
    try:
        kernels = measure_kernels(at_most)
    finally:
        torch.set_num_threads(threads)
    return Diagnosis(
        system=system, kernels=kernels, faults=[*find_faults(kernels)], notes=[*find_notes(system, kernels)]
    )


def find_faults(kernels: Kernels) -> Iterator[str]:
    """Yield what must not be. Each is worth a report."""
    for kernel in kernels.kernels:
        if kernel.answers not in ("right", ""):
            yield f"the kernel {kernel.isa} computes other bits than the reference; {kernel.answers}"
        if kernel.share is not None and kernel.share > 1:
            yield f"the kernel {kernel.isa} is {kernel.share:.2f} times as fast as its instructions allow: a wrong peak"


def find_notes(system: System, kernels: Kernels) -> Iterator[str]:
    """Yield what may make a model slow, or the figures uncertain."""
    if missing := missing_kernels():
        yield f"int8-native lacks {missing}"
    usable = min(system.allowed, system.limits.processors or system.allowed)
    if system.threads > usable:
        yield f"torch uses {system.threads} threads, but this process may use {usable:g} processors: set --threads"
    for kernel in kernels.kernels:
        if kernel.second_loop is not None and abs(kernel.second_loop - 1) > AGREEMENT:
            yield f"{kernel.isa}: a second loop of products is {kernel.second_loop:.2f} times as fast: {_NOISY}"
    for where, ratio in kernels.second_reading.items():
        if abs(ratio - 1) > AGREEMENT:
            yield f"{where}: memchr reads {ratio:.2f} times as fast: {_NOISY}"


_NOISY = "the machine is busy, or the peak is wrong"

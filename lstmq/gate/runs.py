"""A run: a session, the limits it is judged by, and the conditions that another run must share to be compared."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import nn

from lstmq.comparison import Fidelity, Machine
from lstmq.gate.limits import Limits, limits_for
from lstmq.gate.recording import Plan, Recording
from lstmq.gate.statistics import ConfidenceInterval, Figure, exact, median_interval
from lstmq.quantization import FLOAT32
from lstmq.text import tensors_of
from lstmq.workload import Subject, Workload


@dataclass(frozen=True, kw_only=True)
class WorkloadDescription:
    """A workload as a run records it.

    Attributes:
        speed: where the model and stream for speed and size come from, in words.
        loss: the same for the loss.
        fingerprint: a hash of shapes, weights and streams.
    """

    speed: str
    loss: str
    fingerprint: str


@dataclass(frozen=True, order=True)
class Conditions:
    """What must be the same in two runs that are compared. torch may differ, because that is the question.

    Attributes:
        cpu: the name of the processor.
        isa: its widest instruction set for integers.
        engine: torch's int8 engine.
        kernels: the instruction set of our own kernels.
        threads: number of threads.
        workload: the fingerprint of the workload.
        window: longest window, in steps.
        slice: length of a slice, in steps.
    """

    cpu: str
    isa: str
    engine: str
    kernels: str
    threads: int
    workload: str
    window: int
    slice: int

    def differences(self, then: "Conditions") -> list[str]:
        """Return which conditions of an earlier run differ, and how."""
        now, before = asdict(self), asdict(then)
        return [f"{name} {now[name]} now, {before[name]} then" for name in now if now[name] != before[name]]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A session with everything that a verdict needs, now or later.

    Attributes:
        recording: what was measured.
        workload: what it was measured on.
        limits: the limits that it was judged by.
        exempt: metrics that these limits do not apply to.
        cases: schemes whose benchmark finished.
        others: figures of the benchmarks that do not measure a scheme, by case and metric.
        failures: names of the benchmarks that failed without a figure.
        date: when the session ended, ISO 8601, UTC.
        outcome: the outcome, a value of :class:`~lstmq.gate.verdicts.Outcome`; empty before the session is judged.
    """

    recording: Recording
    workload: WorkloadDescription
    limits: Limits
    exempt: Sequence[str]
    cases: Sequence[str]
    others: Mapping[str, Mapping[str, ConfidenceInterval]] = field(default_factory=dict)
    failures: Sequence[str] = ()
    date: str
    outcome: str = ""

    @property
    def machine(self) -> Machine:
        """The machine of this environment."""
        return self.recording.here.machine

    @property
    def conditions(self) -> Conditions:
        """What must be the same in a run that this one is compared with."""
        return conditions(self.machine, self.workload, self.recording.plan)

    def speedup(self, scheme: str) -> ConfidenceInterval:
        """Return the seconds of float32 over the seconds of the scheme, from all blocks: to show, and as a baseline."""
        return median_interval(self.recording.speedup(scheme).blocks)

    def least_speedup(self, scheme: str) -> float | None:
        """Return the smallest speedup that passes, or ``None`` if there is no limit."""
        limit = limits_for(self.limits, scheme, self.machine.isa).get("speedup")
        return limit.at_least if limit and "speedup" not in self.exempt else None

    def us_per_token(self, model: str) -> float:
        """Return the time of a model in this environment, in microseconds per token."""
        return self.recording.here.us_per_token(model, self.recording.plan)

    def size(self, model: str) -> int:
        """Return the serialised bytes of a model in this environment."""
        return self.recording.here.sizes[model].total

    def fidelity(self, model: str) -> Fidelity:
        """Return the losses and the divergence of a model in this environment."""
        return self.recording.here.fidelity[model]

    def figures(self, scheme: str) -> dict[str, Figure]:
        """Return the figures that limits apply to, by metric. Only the speedups are noisy."""
        float32, quantized = self.fidelity(FLOAT32), self.fidelity(scheme)
        figures: dict[str, Figure] = {
            "speedup": self.recording.speedup(scheme),
            "size_ratio": exact(self.size(FLOAT32) / self.size(scheme)),
            "loss_difference": exact(quantized.loss - float32.loss),
        }
        if scheme in self.recording.here.words:
            figures["word_speedup"] = self.recording.word_speedup(scheme)
        figures["quantized_share"] = exact(self.recording.here.quantized_share[scheme])
        divergence = {"kl": quantized.kl, "agreement": quantized.agreement}
        return figures | {metric: exact(figure) for metric, figure in divergence.items() if figure is not None}


def conditions(machine: Machine, workload: WorkloadDescription, plan: Plan) -> Conditions:
    """Return the conditions of a session, before or after it is measured."""
    hardware = (machine.cpu, machine.isa, machine.engine, machine.kernels, machine.threads)
    return Conditions(*hardware, workload.fingerprint, plan.bptt, plan.tokens)


def describe_workload(workload: Workload) -> WorkloadDescription:
    """Return where models and streams come from, in words, and a fingerprint of shapes, weights and streams."""
    digest = hashlib.sha256()
    for subject in (workload.speed, workload.loss):
        _update_digest(digest, subject)
    fingerprint = digest.hexdigest()[:16]
    return WorkloadDescription(speed=workload.speed.origin, loss=workload.loss.origin, fingerprint=fingerprint)


def _update_digest(digest: "hashlib._Hash", subject: Subject[nn.Module]) -> None:
    stream = subject.stream
    digest.update(f"{sorted(subject.keep)} {stream.batch_first} {stream.call is not None}".encode())
    for tensor in (*tensors_of(stream.inputs), *tensors_of(stream.targets)):
        readable = tensor.float() if tensor.dtype is torch.bfloat16 else tensor  # NumPy has no bfloat16
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + readable.numpy().tobytes())
    for name, weight in subject.model.state_dict().items():
        # A sum is enough, and fast: the fingerprint tells workloads apart, it does not protect against attacks.
        digest.update(f"{name} {tuple(weight.shape)} {weight.double().sum().item():.6g}".encode())

"""What a session was of and what it gave: :class:`Run`, and what runs must have in common to be compared."""

import hashlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from lstmq.comparison import Fidelity
from lstmq.gate.limits import Limits, limits_for
from lstmq.gate.processes import HERE
from lstmq.gate.session import Recording
from lstmq.gate.statistics import ConfidenceInterval, exact, interval_over_processes
from lstmq.quantization import FLOAT32
from lstmq.workload import Subject, Workload


@dataclass(frozen=True, kw_only=True)
class Run:
    """A session and what it was of: all that a verdict needs, now or later.

    Attributes:
        recording: what was measured.
        workload: where models and texts come from, in words, and their fingerprint.
        floors: the limits it was judged by.
        exempt: the metrics that those are not for.
        cases: the schemes whose benchmark ran to its end.
        others: figures of the cases that are no scheme's, by case and metric: ``median``, ``lower``, ``upper``.
        failures: names of the cases that failed, and for no figure.
        date: of its end, ISO 8601, UTC.
        outcome: what it ended as, in :class:`lstmq.verdicts.Outcome`'s words.
    """

    recording: Recording
    workload: Mapping[str, str]
    floors: Limits
    exempt: Sequence[str]
    cases: Sequence[str]
    others: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    failures: Sequence[str] = field(default_factory=list)
    date: str
    outcome: str = ""

    @property
    def machine(self) -> Mapping[str, Any]:
        """What this environment's workers ran on."""
        machine: Mapping[str, Any] = self.recording.environments[HERE]["machine"]
        return machine

    @property
    def conditions(self) -> dict[str, Any]:
        """What must be the same in a run that this one is compared with."""
        return conditions(self.machine, self.workload, self.recording.plan)

    def ratios(self, above: tuple[str, str], below: tuple[str, str]) -> list[list[float]]:
        """Divide the seconds of two arms, each an environment and a model, worker by worker and slice by slice."""
        seconds = self.recording.seconds
        pairs = zip(seconds[above[0]][above[1]], seconds[below[0]][below[1]], strict=True)
        return [[x / y for x, y in zip(*pair, strict=True) if x is not None and y is not None] for pair in pairs]

    def us_per_token(self, environment: str, arm: str) -> float:
        """Return the median over workers of the median slice, in microseconds per token, of whatever column."""
        workers = self.recording.seconds[environment][arm]
        medians = [statistics.median(t for t in worker if t is not None) for worker in workers]
        return 1e6 * statistics.median(medians) / float(self.recording.plan["tokens"] * self.recording.plan["columns"])

    def speedup(self, scheme: str) -> ConfidenceInterval:
        """Return float32's seconds over the scheme's."""
        return interval_over_processes(self.ratios((HERE, FLOAT32), (HERE, scheme)))

    def least_speedup(self, scheme: str) -> float | None:
        """Return the least speedup that passes, if there is a limit."""
        row = (
            {} if "speedup" in self.exempt else limits_for(self.floors, scheme, self.machine["isa"]).get("speedup", {})
        )
        least: float | None = row.get("at_least")
        return least

    def size(self, environment: str, model: str) -> int:
        """Return serialised bytes."""
        return int(self.recording.environments[environment]["sizes"][model]["total"])

    def fidelity(self, environment: str, model: str) -> Fidelity:
        """Return what a model makes of the text."""
        return Fidelity(**self.recording.environments[environment]["fidelity"][model])

    def figures(self, scheme: str) -> dict[str, ConfidenceInterval]:
        """Return what floors are for, by metric: the speedup with its interval, and what is not noisy."""
        float32, quantized = (self.fidelity(HERE, name) for name in (FLOAT32, scheme))
        figures = {
            "speedup": self.speedup(scheme),
            "size_ratio": exact(self.size(HERE, FLOAT32) / self.size(HERE, scheme)),
            "loss_difference": exact(quantized.loss - float32.loss),
        }
        distributed = {"kl": quantized.kl, "agreement": quantized.agreement}
        return figures | {name: exact(figure) for name, figure in distributed.items() if figure is not None}


def describe_workload(workload: Workload) -> dict[str, str]:
    """Return where models and texts come from, in words, and a fingerprint of shapes, weights and ids."""
    digest = hashlib.sha256()
    for subject in (workload.speed, workload.loss):
        _feed(digest, subject)
    return {"speed": workload.speed.origin, "loss": workload.loss.origin, "fingerprint": digest.hexdigest()[:16]}


def _feed(digest: "hashlib._Hash", subject: Subject[nn.Module]) -> None:
    for tensor in (subject.stream.inputs, subject.stream.targets):
        readable = tensor.float() if tensor.dtype is torch.bfloat16 else tensor  # NumPy has no such type
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode() + readable.numpy().tobytes())
    for name, weight in subject.model.state_dict().items():
        # Weights are summed, for speed: it is to tell workloads apart, not to withstand anybody.
        digest.update(f"{name} {tuple(weight.shape)} {weight.double().sum().item():.6g}".encode())


def conditions(machine: Mapping[str, Any], workload: Mapping[str, str], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what must be the same in two runs that are compared; torch may differ, for that is the question."""
    return {
        **{key: machine.get(key) for key in ("cpu", "isa", "engine", "native", "threads")},
        "workload": workload.get("fingerprint"),
        "window": plan.get("bptt"),
        "slice": plan.get("tokens"),
    }


def differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """Return which conditions differ and how; none if the runs can be compared."""
    return [f"{key} {now[key]} now, {then[key]} then" for key in now if now[key] != then[key]]

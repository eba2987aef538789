"""What a session was of and what it gave: :class:`Run`, also as it lies in pytest-benchmark's JSON."""

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lstmq.environments import HERE
from lstmq.fidelity import Fidelity
from lstmq.floors import Floors, check_floors, rows_of
from lstmq.intervals import Interval, exactly, over_workers
from lstmq.quantization import FLOAT32
from lstmq.session import Plan, Recording
from lstmq.subjects import Subject, Workload
from lstmq.worker import COPY

KEY = "lstmq"  # of pytest-benchmark's JSON
VERSION = 3  # of what lies under it
MACHINE = ("cpu", "isa", "torch", "engine", "python")  # what a verdict says of one
LARGEST_SIZE = 2**63  # bytes of a model
LARGEST = 200_000_000  # bytes of a file that is read: 1,000 times what a session writes


class RunError(ValueError):
    """A file that is not a saved run that can be judged."""


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
    floors: Floors
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

    def speedup(self, scheme: str) -> Interval:
        """Return float32's seconds over the scheme's."""
        return over_workers(self.ratios((HERE, FLOAT32), (HERE, scheme)))

    def least_speedup(self, scheme: str) -> float | None:
        """Return the least speedup that passes, if there is a limit."""
        row = {} if "speedup" in self.exempt else rows_of(self.floors, scheme, self.machine["isa"]).get("speedup", {})
        least: float | None = row.get("at_least")
        return least

    def size(self, environment: str, model: str) -> int:
        """Return serialised bytes."""
        return int(self.recording.environments[environment]["sizes"][model]["total"])

    def fidelity(self, environment: str, model: str) -> Fidelity:
        """Return what a model makes of the text."""
        return Fidelity(**self.recording.environments[environment]["fidelity"][model])

    def figures(self, scheme: str) -> dict[str, Interval]:
        """Return what floors are for, by metric: the speedup with its interval, and what is not noisy."""
        if scheme not in self._known_figures:
            self._known_figures[scheme] = self._figures(scheme)
        return dict(self._known_figures[scheme])

    @cached_property
    def _known_figures(self) -> dict[str, dict[str, Interval]]:
        """What :meth:`figures` gave, which is asked more than once of each of a thousand runs."""
        return {}

    def _figures(self, scheme: str) -> dict[str, Interval]:
        float32, quantized = (self.fidelity(HERE, name) for name in (FLOAT32, scheme))
        figures = {
            "speedup": self.speedup(scheme),
            "size_ratio": exactly(self.size(HERE, FLOAT32) / self.size(HERE, scheme)),
            "loss_difference": exactly(quantized.loss - float32.loss),
        }
        distributed = {"kl": quantized.kl, "agreement": quantized.agreement}
        return figures | {name: exactly(figure) for name, figure in distributed.items() if figure is not None}


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
        **{key: machine.get(key) for key in ("cpu", "isa", "engine", "threads")},
        "workload": workload.get("fingerprint"),
        "window": plan.get("bptt"),
        "slice": plan.get("tokens"),
    }


def differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """Return which conditions differ and how; none if the runs can be compared."""
    return [f"{key} {now[key]} now, {then[key]} then" for key in now if now[key] != then[key]]


def as_json(run: Run, verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what lies under :data:`KEY` of pytest-benchmark's JSON."""
    return {"version": VERSION, **{field.name: getattr(run, field.name) for field in fields(run)}} | {
        "recording": asdict(run.recording),
        "verdicts": _finite(list(verdicts)),
    }


def _finite(value: Any) -> Any:
    """Return what JSON can hold, for other readers: it has neither infinity nor NaN."""
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(path: Path) -> Run:
    """Read a file that ``pytest benchmarks`` wrote.

    Raises:
        RunError: in one line, if it is anything else.
        OSError: if there is no such file, or it cannot be read.
    """
    if path.stat().st_size > LARGEST:
        raise RunError(f"{path}: expected a saved run, found {path.stat().st_size:,} bytes")
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested for ever
        raise RunError(f"{path}: expected a saved run, found no JSON, or a cut one ({error})") from None
    return from_json(document, str(path))


def from_json(document: object, origin: str) -> Run:
    """Take a run out of pytest-benchmark's JSON; ``origin`` is its name in errors.

    Raises:
        RunError: in one line, if there is none in it, or one of another version, or a damaged one.
    """
    saved = document.get(KEY) if isinstance(document, dict) else None
    if not isinstance(saved, dict):
        raise RunError(f"{origin}: expected a run of lstmq's benchmarks, found no session in it")
    if saved.get("version") != VERSION:
        raise RunError(f"{origin}: expected a run saved in version {VERSION}, found version {saved.get('version')!r}")
    try:
        run = Run(**{f.name: saved[f.name] for f in fields(Run)} | {"recording": Recording(**saved["recording"])})
        _check(run, origin)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"{origin}: expected a saved run, found a damaged one: {' '.join(reason.split())}") from None
    return run


def _check(run: Run, origin: str) -> None:
    """Read all that verdicts are made of, so that what is missing or of another kind is found out at once."""
    check_floors(run.floors, origin)
    plan = run.recording.plan
    Plan(**{key: value for key, value in plan.items() if key != "clock"})
    datetime.fromisoformat(run.date)
    if not plan["schemes"]:
        raise ValueError("a plan without a scheme")
    _expect(str, plan["clock"], *plan["schemes"], *run.cases, *run.exempt, *run.failures, run.date, run.outcome)
    windows = []
    for name, environment in run.recording.environments.items():
        _expect(str, environment["lstmq"], environment["place"], *(environment["machine"][key] for key in MACHINE))
        _expect(bool, environment["pinned"])
        _expect(Mapping, environment["absent"])
        _expect(str, *environment["absent"].values())
        models = environment["models"]
        if missing := {*plan["schemes"]} - {*models, *environment["absent"]}:
            raise ValueError(f"nothing of {', '.join(missing)} {name}")
        if run.recording.seconds[name].keys() != {*models} or not {FLOAT32, COPY} <= {*models}:
            raise ValueError(f"times of {', '.join(run.recording.seconds[name])} for the models {', '.join(models)}")
        for arm, workers in run.recording.seconds[name].items():
            _check_times(arm, workers, plan)
            run.us_per_token(name, arm)
        for model in {*models} - {COPY}:
            fidelity = run.fidelity(name, model)
            _expect(int | float | None, fidelity.kl, fidelity.agreement)
            if not 0 < run.size(name, model) < LARGEST_SIZE or not 0 < len(fidelity.losses) == len(fidelity.tokens):
                raise ValueError(f"no size of {model}, or not a loss for each of its windows")
            _ = fidelity.loss, float(fidelity.kl or 0), float(fidelity.agreement or 0)  # which raise
            windows.append(fidelity.tokens)
            _expect(int, *environment["sizes"][model]["parts"].values())
    if any(tokens != windows[0] for tokens in windows):
        raise ValueError("losses of other windows for one model than for another")
    for scheme in run.cases:
        run.figures(scheme)
    for figures in run.others.values():
        for figure in figures.values():
            _expect(int | float, *asdict(Interval(**figure)).values())
    run.conditions  # noqa: B018 - it raises


def _check_times(arm: str, workers: Any, plan: Mapping[str, Any]) -> None:
    slices = plan["pairs"] + plan["more"]
    if len(workers) != plan["workers"] or {len(worker) for worker in workers} != {slices}:
        raise ValueError(f"not {slices} times for each of {plan['workers']} workers")
    read = plan["pairs"] if arm in (FLOAT32, COPY) else slices
    for worker in workers:
        _expect(int | float, *worker[:read])
        if not all(1e-9 < t < 1e6 for t in worker[:read]) or any(t is not None for t in worker[read:]):
            raise ValueError(f"a time of {arm} that is none")


def _expect(kind: Any, *values: object) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise ValueError(f"{str(value)[:60]!r}")

"""A run as it lies in pytest-benchmark's JSON: :func:`as_json` and :func:`read`, which takes nothing on trust."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from lstmq.gate.limits import check_limits
from lstmq.gate.runs import Run
from lstmq.gate.session import Plan, Recording
from lstmq.gate.statistics import ConfidenceInterval
from lstmq.gate.worker import FLOAT32_COPY
from lstmq.quantization import FLOAT32

KEY = "lstmq"  # of pytest-benchmark's JSON
VERSION = 3  # of what lies under it
MACHINE = ("cpu", "isa", "torch", "engine", "python")  # what a verdict says of one
MAX_MODEL_BYTES = 2**63  # bytes of a model
MAX_FILE_BYTES = 200_000_000  # bytes of a file that is read: 1,000 times what a session writes


class RunError(ValueError):
    """A file that is not a saved run that can be judged."""


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


def read_run(path: Path) -> Run:
    """Read a file that ``pytest benchmarks`` wrote.

    Raises:
        RunError: in one line, if it is anything else.
        OSError: if there is no such file, or it cannot be read.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
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
    check_limits(run.floors, origin)
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
        if run.recording.seconds[name].keys() != {*models} or not {FLOAT32, FLOAT32_COPY} <= {*models}:
            raise ValueError(f"times of {', '.join(run.recording.seconds[name])} for the models {', '.join(models)}")
        for arm, workers in run.recording.seconds[name].items():
            _check_times(arm, workers, plan)
            run.us_per_token(name, arm)
        for model in {*models} - {FLOAT32_COPY}:
            fidelity = run.fidelity(name, model)
            _expect(int | float | None, fidelity.kl, fidelity.agreement)
            if not 0 < run.size(name, model) < MAX_MODEL_BYTES or not 0 < len(fidelity.losses) == len(fidelity.tokens):
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
            _expect(int | float, *asdict(ConfidenceInterval(**figure)).values())
    run.conditions  # noqa: B018 - it raises


def _check_times(arm: str, workers: Any, plan: Mapping[str, Any]) -> None:
    slices = plan["pairs"] + plan["more"]
    if len(workers) != plan["workers"] or {len(worker) for worker in workers} != {slices}:
        raise ValueError(f"not {slices} times for each of {plan['workers']} workers")
    read_run = plan["pairs"] if arm in (FLOAT32, FLOAT32_COPY) else slices
    for worker in workers:
        _expect(int | float, *worker[:read_run])
        if not all(1e-9 < t < 1e6 for t in worker[:read_run]) or any(t is not None for t in worker[read_run:]):
            raise ValueError(f"a time of {arm} that is none")


def _expect(kind: Any, *values: object) -> None:
    for value in values:
        if not isinstance(value, kind):
            raise ValueError(f"{str(value)[:60]!r}")

"""Runs in pytest-benchmark's JSON files: written by the benchmarks, read and checked here."""

import json
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from lstmq.errors import one_line
from lstmq.files import read_input, to_finite
from lstmq.gate.recording import FLOAT32_COPY, EnvironmentRecording, Plan, Seconds
from lstmq.gate.runs import Run
from lstmq.gate.verdicts import Verdict
from lstmq.quantization import FLOAT32

KEY = "lstmq"  # of the run in pytest-benchmark's JSON
VERSION = 5  # of the format below that key; lstmq 0.1.0 wrote version 3
MAX_MODEL_BYTES = 2**63
NON_FINITE = {str(number): number for number in (math.nan, math.inf, -math.inf)}
MAX_FILE_BYTES = 200_000_000  # 1,000 times what a session writes


class RunError(ValueError):
    """The file is not a saved run that can be judged."""


def run_document(run: Run, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return what the benchmarks save below :data:`KEY`."""
    return {"version": VERSION, **_name_non_finite(msgspec.to_builtins(run)), "verdicts": to_finite(verdicts)}


def _name_non_finite(node: Any) -> Any:
    """Return plain values in which names stand for NaN and infinity, so that they can be read back."""
    if isinstance(node, dict):
        return {key: _name_non_finite(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_name_non_finite(value) for value in node]
    return str(node) if isinstance(node, float) and not math.isfinite(node) else node


def _read_non_finite(node: Any) -> Any:
    """Return plain values in which the names of NaN and infinity are numbers again."""
    if isinstance(node, dict):
        return {key: _read_non_finite(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_read_non_finite(value) for value in node]
    return NON_FINITE.get(node, node) if isinstance(node, str) else node


def read_run(path: Path) -> Run:
    """Read a file that ``pytest benchmarks`` saved.

    Raises:
        RunError: in one line, if it is not such a file, is damaged, or was saved by another version of lstmq.
        OSError: if there is no such file, or it cannot be read.
    """
    try:
        content = read_input(path, MAX_FILE_BYTES)
    except ValueError as error:
        raise RunError(str(error)) from None
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise RunError(f"{path}: expected a saved run, found no JSON, or a file that was cut off ({error})") from None
    saved = document.get(KEY) if isinstance(document, dict) else None
    if not isinstance(saved, dict):
        raise RunError(f"{path}: expected a run of lstmq's benchmarks, found no session in it")
    if (version := saved.get("version")) != VERSION:
        hint = ", which an older lstmq wrote; measure again with this one" if version in (3, 4) else ""
        raise RunError(f"{path}: expected a run saved in version {VERSION}, found version {version!r}{hint}")
    try:
        run = msgspec.convert(_read_non_finite(saved), Run)
        _check(run)
    except (ValueError, ArithmeticError, KeyError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise RunError(f"{path}: expected a saved run, found a damaged one: {one_line(error)}") from None
    return run


def _check(run: Run) -> None:
    """Check across fields what the types cannot say, so that judging a run that was read never fails."""
    datetime.fromisoformat(run.date)
    plan = run.recording.plan
    if not plan.schemes:
        raise ValueError("a plan without a scheme")
    windows = []
    for name, environment in run.recording.environments.items():
        if missing := {*plan.schemes} - {*environment.models, *environment.absent}:
            raise ValueError(f"no figures of {', '.join(missing)} {name}")
        _check_models(environment, plan)
        windows += [environment.fidelity[model].tokens for model in environment.models if model != FLOAT32_COPY]
    if any(tokens != windows[0] for tokens in windows):
        raise ValueError("the losses of two models have different windows")
    for scheme in run.cases:
        run.figures(scheme)


def _check_models(environment: EnvironmentRecording, plan: Plan) -> None:
    models = {*environment.models}
    if environment.seconds.keys() != models or not {FLOAT32, FLOAT32_COPY} <= models:
        raise ValueError(f"times of {', '.join(environment.seconds)} for the models {', '.join(models)}")
    processes = len(environment.seconds[FLOAT32])
    for model, seconds in environment.seconds.items():
        if len(seconds) != processes:
            raise ValueError(f"{len(seconds)} processes of {model}, expected {processes}")
        _check_seconds(model, seconds, plan)
    _check_words(environment, plan)
    _ = str(environment.peak)  # which may overflow
    for model in models - {FLOAT32_COPY}:
        if model != FLOAT32 and not 0 <= environment.quantized_share[model] <= 1:
            raise ValueError(f"a quantized share of {model} that is out of range")
        size, fidelity = environment.sizes[model], environment.fidelity[model]
        if not all(0 < number < MAX_MODEL_BYTES for number in (size.total, *size.parts.values())):
            raise ValueError(f"a size of {model} that is out of range")
        if not 0 < len(fidelity.losses) == len(fidelity.tokens) or not all(tokens > 0 for tokens in fidelity.tokens):
            raise ValueError(f"not one loss for each window of {model}")
        _ = fidelity.loss, environment.us_per_token(model, plan)  # which may overflow


def _check_words(environment: EnvironmentRecording, plan: Plan) -> None:
    """Check that there is a time for each process and block, of float32 too, and that the first one was read."""
    if not environment.words:
        return
    processes = len(environment.seconds[FLOAT32])
    for model in {FLOAT32, *environment.words}:
        seconds = environment.words[model]
        if len(seconds) != processes or {len(process) for process in seconds} != {plan.blocks}:
            raise ValueError(f"not {plan.blocks} times word by word for each of {processes} processes of {model}")
        times = [time for process in seconds for time in process]
        if None in times[: plan.blocks] or not all(time is None or 1e-9 < time < 1e6 for time in times):
            raise ValueError(f"a time of {model} word by word that is missing or out of range")


def _check_seconds(model: str, seconds: Seconds, plan: Plan) -> None:
    """Check that a model read every slice that it had to until it was settled, and none after that."""
    count = plan.blocks * plan.slices
    if not 1 <= len(seconds) <= plan.max_processes or {len(process) for process in seconds} != {count}:
        raise ValueError(f"not {count} times for each of at most {plan.max_processes} processes")
    is_settled = False
    for number, process in enumerate(seconds):
        reads = [
            place % plan.slices < plan.float32_slices or model not in (FLOAT32, FLOAT32_COPY) for place in range(count)
        ]
        is_settled = is_settled or (number * plan.blocks in plan.looks and all(time is None for time in process))
        for time, is_read in zip(process, reads, strict=True):
            if (time is not None) != (is_read and not is_settled):
                raise ValueError(f"a time of {model} for a slice that it does not read, or none for one that it reads")
            if time is not None and not 1e-9 < time < 1e6:
                raise ValueError(f"a time of {model} that is out of range")

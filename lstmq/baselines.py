"""Which saved run a session is compared with: :func:`choose`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lstmq.environments import HERE
from lstmq.gate import is_noisy
from lstmq.runs import Run, differences
from lstmq.verdicts import Outcome


def choose(
    found: Iterable[Run], now: Mapping[str, Any], schemes: Collection[str] = (), required: bool = False
) -> tuple[Run | None, str]:
    """Return the newest run that passed and can be compared with, or else one that did not pass; and say which.

    A run that failed stays red until its figures are accepted, which is done by naming it: found alone, it is taken.

    Args:
        found: saved runs, the newest first; no more of them are read than need be.
        now: the conditions of what is to be compared, as :func:`lstmq.runs.conditions` gives them.
        schemes: what is to be compared.
        required: whether it is an error if there is none, or if it lacks a scheme.

    Raises:
        ValueError: in one line, if there is none and it is required.
    """
    second, reasons = None, []
    for run in found:
        why = obstacles(now, run)
        if required and (missing := [scheme for scheme in schemes if scheme not in run.recording.seconds[HERE]]):
            why.append(f"it has no {', '.join(missing)}")
        if why:
            reasons.append(f"the run of {run.date} cannot be compared with: {'; '.join(why)}")
        elif run.outcome == Outcome.PASS:
            return run, f"the run of {run.date}"
        elif second is None:
            second = run
    if second:
        return second, f"the run of {second.date}, which did not pass itself: {second.outcome}"
    reason = reasons[0] if reasons else "no saved run was found"
    if required:
        raise ValueError(f"--gate-baseline=require: {reason}")
    return None, f"{reason}; judged by floors alone"


def obstacles(now: Mapping[str, Any], run: Run) -> list[str]:
    """Return why a saved run cannot be compared with, under the conditions ``now``; nothing if it can."""
    return differences(now, run.conditions) + (["it was too noisy there itself"] if is_noisy(run) else [])

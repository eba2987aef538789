"""Which saved run a session is compared with: :func:`choose`."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lstmq.gate.judge import is_noisy
from lstmq.gate.processes import HERE
from lstmq.gate.runs import Run, differences
from lstmq.gate.verdicts import Outcome


def select_baseline(
    found: Iterable[Run],
    now: Mapping[str, Any],
    schemes: Collection[str] = (),
    *,
    named: bool = False,
    required: bool = False,
) -> tuple[Run | None, str]:
    """Return the newest run that can be compared with, passed, and has all the schemes; and say which it is.

    A run that failed stays red until its figures are accepted, which is done by naming it: then it is taken if there is
    no better one. So is, unless one is required, a run that lacks a scheme.

    Args:
        found: saved runs, the newest first; no more of them are read than need be.
        now: the conditions of what is to be compared, as :func:`lstmq.runs.conditions` gives them.
        schemes: what is to be compared.
        named: whether these runs were asked for, rather than any there are.
        required: whether it is an error if there is none.

    Raises:
        ValueError: in one line, if there is none and it is required.
    """
    second: tuple[Run, str] | None = None
    reasons = []
    for run in found:
        why = why_not_comparable(now, run)
        but: list[str] = []
        if run.outcome != Outcome.PASS:
            (but if named else why).append(f"it did not pass itself: {run.outcome}")
        if missing := [scheme for scheme in schemes if scheme not in run.recording.seconds[HERE]]:
            (why if required else but).append(f"it has no {', '.join(missing)}")
        if not why and not but:
            return run, f"the run of {run.date}"
        if why:
            reasons.append(f"the run of {run.date} cannot be compared with: {'; '.join(why)}")
        elif second is None:
            second = run, f"the run of {run.date}, though {'; '.join(but)}"
    if second:
        return second
    reason = reasons[0] if reasons else "no saved run was found"
    if required:
        raise ValueError(f"--gate-baseline=require: {reason}")
    return None, f"{reason}; judged by floors alone"


def why_not_comparable(now: Mapping[str, Any], run: Run) -> list[str]:
    """Return why a saved run cannot be compared with, under the conditions ``now``; nothing if it can."""
    return differences(now, run.conditions) + (["it was too noisy there itself"] if is_noisy(run) else [])

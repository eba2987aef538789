"""Selects the saved run that a session is compared with: :func:`select_baseline`."""

from collections.abc import Collection, Iterable

from lstmq.gate.judge import is_noisy
from lstmq.gate.runs import Conditions, Run
from lstmq.gate.verdicts import Outcome


def select_baseline(
    runs: Iterable[Run], now: Conditions, schemes: Collection[str] = (), *, named: bool = False, required: bool = False
) -> tuple[Run | None, str]:
    """Return the newest comparable run that passed and has every scheme, and a sentence that says which one it is.

    A run that failed is used only if the user named it. Naming a run accepts its figures. A run that lacks a scheme is
    used if no better run is found, unless a baseline is required.

    Args:
        runs: saved runs, the newest first. They are read one by one, until one fits.
        now: the conditions of the session.
        schemes: the schemes to compare.
        named: whether the user named these runs.
        required: whether it is an error if no run fits.

    Raises:
        ValueError: in one line, if no run fits and one is required.
    """
    fallback: tuple[Run, str] | None = None
    reasons = []
    for run in runs:
        obstacles, reservations = why_not_comparable(now, run), list[str]()
        if run.outcome != Outcome.PASS:
            (reservations if named else obstacles).append(f"it did not pass: {run.outcome or 'it was not judged'}")
        if missing := [scheme for scheme in schemes if scheme not in run.recording.here.seconds]:
            (obstacles if required else reservations).append(f"it has no {', '.join(missing)}")
        if not obstacles and not reservations:
            return run, f"the run of {run.date}"
        if obstacles:
            reasons.append(f"the run of {run.date} cannot be compared: {'; '.join(obstacles)}")
        elif fallback is None:
            fallback = run, f"the run of {run.date}, although {'; '.join(reservations)}"
    if fallback:
        return fallback
    reason = reasons[0] if reasons else "no saved run was found"
    if required:
        raise ValueError(f"a baseline is required: {reason}")
    return None, f"{reason}; judged by limits only"


def why_not_comparable(now: Conditions, run: Run) -> list[str]:
    """Return why a session under these conditions cannot be compared with a run; empty if it can."""
    return now.differences(run.conditions) + (["it was too noisy"] if is_noisy(run) else [])

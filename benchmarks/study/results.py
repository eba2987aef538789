"""Judges the sessions that ``run.py`` saved with the gate's own code, and writes the tables of ``README.md``."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from intervals import binomial_interval
from sessions import Session, read_sessions

from lstmq.comparison import Machine
from lstmq.gate import EnvironmentRecording, Outcome, Plan, Recording, Run, Verdict, is_noisy, judge_limits, load_limits
from lstmq.gate.judge_pair import judge_kept_speedup, judge_slower
from lstmq.gate.limits import CaseLimits, limits_for
from lstmq.gate.runs import WorkloadDescription
from lstmq.gate.statistics import interval_over_processes
from lstmq.quantization import FLOAT32

README = Path(__file__).with_name("README.md")
MARKER = "<!-- results.py writes what follows -->\n"
LIMITS = load_limits(Path(__file__).parents[1] / "limits.toml")
Runs = defaultdict[tuple[str, int], list[Run]]  # by condition and slowdown
SCHEME = "int8"
OUTCOMES = (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID)
CONDITIONS = ("idle", "loaded")
SLOWDOWNS = (2, 5, 10)
HEADER = [f"| | sessions | {' | '.join(OUTCOMES)} | FAIL's probability |", "|---|---:|---:|---:|---:|---:|---|"]


def load_run(session: Session, clock: str = "seconds") -> Run:
    """Return a session as a run that the gate can judge.

    Args:
        session: a line of the file.
        clock: ``seconds``, or ``wall`` for wall time.
    """
    environments = {
        name: EnvironmentRecording(
            protocol=0,
            lstmq="",
            location="",
            pinned=True,
            machine=Machine(**session["machine"]),
            models=list(models),
            absent={},
            sizes={},  # the file has only a summary of sizes and fidelity
            fidelity={},
            seconds={
                model: [[t and t / 1e6 for t in process] for process in processes]
                for model, processes in models.items()
            },
        )
        for name, models in session[clock].items()
    }
    return Run(
        recording=Recording(plan=Plan(**session["plan"]), slices=[], **environments),
        workload=WorkloadDescription(speed="", loss="", fingerprint=""),
        limits=LIMITS,
        exempt=(),
        cases=(SCHEME,),
        date=session["date"],
    )


def outcome(run: Run, verdict: Verdict) -> Outcome:
    """Return the outcome of a verdict, which is invalid if the machine was too noisy."""
    return Outcome.INVALID if is_noisy(run) else verdict.outcome


def judge_against(run: Run) -> Outcome:
    return outcome(run, judge_slower(run.recording, SCHEME))


def judge_limit(run: Run) -> Outcome:
    """Judge the speedup only, because the file has no other figures."""
    limit = limits_for(LIMITS, SCHEME, run.machine.isa)["speedup"]
    limits = {SCHEME: CaseLimits(default={"speedup": limit})}
    return outcome(run, judge_limits(SCHEME, {"speedup": run.speedup(SCHEME)}, limits, run.machine.isa)[0])


def judge_baseline(pairs: Iterable[tuple[Run, Run]]) -> list[Outcome]:
    """Compare the second run of each pair with the first, unless that was too noisy."""
    return [outcome(now, judge_kept_speedup(now, then, SCHEME)) for then, now in pairs if not is_noisy(then)]


def outcomes_row(name: str, outcomes: Sequence[Outcome]) -> str:
    """Return a row of a table: how often each outcome came, and the exact interval of FAIL's probability."""
    counts, sessions = Counter(outcomes), len(outcomes)
    if not sessions:
        return f"| {name} | 0 | | | | | |"
    lower, upper = binomial_interval(counts[Outcome.FAIL], sessions)
    columns = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
    return f"| {name} | {sessions} | {columns} | {100 * lower:.1f} to {100 * upper:.1f} % |"


def spread_row(name: str, figures: Sequence[float]) -> str:
    """Return a row of a table: the median, the standard deviation and the extremes of a figure over sessions."""
    if len(figures) < 2:
        return f"| {name} | | | |"
    ends = f"{min(figures):.3f} to {max(figures):.3f}"
    return f"| {name} | {statistics.median(figures):.3f} | {statistics.stdev(figures):.4f} | {ends} |"


def false_alarms(idle: list[Run], loaded: list[Run]) -> Iterator[str]:
    """Yield the table of sessions with the same code on both sides. In a row, each session is in one pair only."""
    yield from ["## Unchanged code: false alarms", "", *HEADER]
    for name, runs in (("idle", idle), ("loaded", loaded)):
        yield outcomes_row(f"limit, {name}", [judge_limit(run) for run in runs])
    for name, runs in (("idle", idle), ("loaded", loaded), ("both", idle + loaded)):
        yield outcomes_row(f"A/B, {name}", [judge_against(run) for run in runs])
    for name, pairs in {
        "saved idle, now idle": zip(idle[::2], idle[1::2], strict=False),
        "saved loaded, now loaded": zip(loaded[::2], loaded[1::2], strict=False),
        "saved idle, now loaded": zip(idle, loaded, strict=False),
        "saved loaded, now idle": zip(loaded, idle, strict=False),
    }.items():
        yield outcomes_row(f"baseline, {name}", judge_baseline(pairs))


def power(runs: Runs) -> Iterator[str]:
    """Yield the table of sessions with a slower int8."""
    yield from ["", "## A slower int8: A/B's power", "", *HEADER]
    for slowdown in SLOWDOWNS:
        idle, loaded = (runs[condition, slowdown] for condition in CONDITIONS)
        for name, some in (("idle", idle), ("loaded", loaded), ("both", idle + loaded)):
            yield outcomes_row(f"{slowdown} % slower, {name}", [judge_against(run) for run in some])


def figures(runs: Runs, wall_runs: Runs) -> Iterator[str]:
    """Yield the table of what was measured."""
    yield from ["", "## What was measured", ""]
    yield from ["| | median | sd over sessions | least to most |", "|---|---:|---:|---|"]
    for name in CONDITIONS:
        some = runs[name, 0]
        copies = [interval_over_processes(run.recording.here.copy_ratios()).median for run in some]
        yield spread_row(f"float32 over its copy, {name}", copies)
        yield spread_row(f"speedup, {name}", [run.speedup(SCHEME).median for run in some])
        yield spread_row(f"float32, us/token, {name}", [run.us_per_token(FLOAT32) for run in some])
        yield spread_row(f"int8 here over int8 there, {name}", [slower(run) for run in some])
        yield spread_row(f"the same by wall time, {name}", [slower(run) for run in wall_runs[name, 0]])
    for slowdown in SLOWDOWNS:
        some = runs["idle", slowdown] + runs["loaded", slowdown]
        yield spread_row(f"int8 slowed by {slowdown} % over int8 there", [slower(run) for run in some])


def slower(run: Run) -> float:
    """Return the seconds of int8 here over those there."""
    return judge_slower(run.recording, SCHEME).figure.median


def durations(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield the table of how long a session took, and a line for each machine and day."""
    yield from ["", "| | seconds a session | load average at its start |", "|---|---|---|"]
    for name in CONDITIONS:
        if some := [session for session in sessions if session["condition"] == name]:
            columns = [[session[key] for session in some] for key in ("took", "load")]
            cells = [f"{statistics.median(column):.1f} ({min(column):.1f} to {max(column):.1f})" for column in columns]
            yield f"| {name} | {' | '.join(cells)} |"
    machines = Counter(
        f"{session['machine']['cpu']} ({session['machine']['isa']}), torch {session['machine']['torch']}, "
        f"{session['date'][:10]}, {session['condition']}"
        for session in sessions
    )
    yield from ["", *(f"- {count} sessions: {machine}" for machine, count in machines.items())]


def tables(sessions: Sequence[Session]) -> str:
    """Return the tables, in Markdown."""
    runs, wall_runs = Runs(list), Runs(list)
    for session in sessions:
        kind = session["condition"], session["slowdown"]
        runs[kind].append(load_run(session))
        wall_runs[kind].append(load_run(session, "wall"))
    differ = sum(len({*session["sizes"].values()}) > 1 or not session["same_predictions"] for session in sessions)
    lines = [
        *false_alarms(runs["idle", 0], runs["loaded", 0]),
        "",
        f"Sizes or predictions differed in {differ} of all {len(sessions)} sessions.",
        *power(runs),
        *figures(runs, wall_runs),
        *durations(sessions),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Replace what follows the marker in the README."""
    head = README.read_text(encoding="utf-8").partition(MARKER)[0]
    README.write_text(f"{head}{MARKER}\n{tables(read_sessions())}", encoding="utf-8")


if __name__ == "__main__":
    main()

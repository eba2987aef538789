"""Judge the sessions of ``run.py`` by the gate's own code, and write the page of results, ``README.md``."""

import statistics
from collections import Counter
from pathlib import Path

from intervals import binomial_interval
from run import SESSIONS, read

from lstmq.gate import judge
from lstmq.gate.limits import limits_for, load_limits
from lstmq.gate.paired import judge_kept_speedup, judge_slower
from lstmq.gate.processes import HERE, THERE
from lstmq.gate.runs import Run
from lstmq.gate.session import Recording
from lstmq.gate.statistics import interval_over_processes
from lstmq.gate.verdicts import Outcome
from lstmq.gate.worker import FLOAT32_COPY
from lstmq.quantization.schemes import FLOAT32

FOLDER = Path(__file__).parent
FLOORS = load_limits(FOLDER.parent / "limits.toml")
SCHEME = "int8"
OUTCOMES = (Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.INVALID)


def run_of(session, clock="seconds"):
    """Return what a session measured as the gate's own code takes it."""
    recording = Recording(
        plan={"columns": 1, **session["plan"]},  # sessions are older than that
        environments={name: {"machine": session["machine"], "absent": {}} for name in (HERE, THERE)},
        seconds={
            name: {arm: [[t and t / 1e6 for t in worker] for worker in workers] for arm, workers in arms.items()}
            for name, arms in session[clock].items()
        },
    )
    facts = {"workload": {}, "floors": FLOORS, "exempt": (), "cases": (SCHEME,), "date": session["date"]}
    return Run(recording=recording, **facts)


def judged(run, verdict):
    """Return the outcome as a session has it: invalid if the machine is."""
    return Outcome.INVALID if judge.is_noisy(run) else verdict.outcome


def against(run):
    return judged(run, judge_slower(run, SCHEME))


def floor(run):
    speedup = {"speedup": run.speedup(SCHEME)}
    rows = {SCHEME: {"speedup": limits_for(FLOORS, SCHEME, run.machine["isa"])["speedup"]}}
    return judged(run, judge.judge_limits(SCHEME, speedup, rows, run.machine["isa"])[0])


def kept(pairs):
    """Return the outcomes of comparing each run with the saved one before it, but for those that were too noisy."""
    return [judged(now, judge_kept_speedup(now, then, SCHEME)) for then, now in pairs if not judge.is_noisy(then)]


def row(name, outcomes):
    """Return a row of the table: how often each outcome came, and the exact interval of FAIL's probability."""
    counts, n = Counter(outcomes), len(outcomes)
    if not n:
        return f"| {name} | 0 | | | | | |"
    low, high = binomial_interval(counts[Outcome.FAIL], n)
    shares = " | ".join(str(counts[outcome]) for outcome in OUTCOMES)
    return f"| {name} | {n} | {shares} | {100 * low:.1f} to {100 * high:.1f} % |"


HEADER = [f"| | sessions | {' | '.join(OUTCOMES)} | FAIL's probability |", "|---|---:|---:|---:|---:|---:|---|"]


def spread(numbers):
    """Return the median, the standard deviation and the extremes of one figure over sessions."""
    if len(numbers) < 2:
        return "| | | |"
    ends = f"{min(numbers):.3f} to {max(numbers):.3f}"
    return f"{statistics.median(numbers):.3f} | {statistics.stdev(numbers):.4f} | {ends}"


def page(sessions):
    """Return the page, in Markdown."""
    runs = [(session["condition"], session["slowdown"], run_of(session)) for session in sessions]

    def pick(condition, slowdown=0):
        return [run for each, slow, run in runs if (each, slow) == (condition, slowdown)]

    idle, loaded = pick("idle"), pick("loaded")
    both = (("idle", idle), ("loaded", loaded))
    yield from ["## Unchanged code: false alarms", "", *HEADER]
    for name, some in both:
        yield row(f"floor, {name}", [floor(run) for run in some])
    for name, some in both:
        yield row(f"A/B, {name}", [against(run) for run in some])
    yield row("A/B, both", [against(run) for run in idle + loaded])
    pairs = {  # in each row, no session is in two pairs
        "saved idle, now idle": zip(idle[::2], idle[1::2], strict=False),
        "saved loaded, now loaded": zip(loaded[::2], loaded[1::2], strict=False),
        "saved idle, now loaded": zip(idle, loaded, strict=False),
        "saved loaded, now idle": zip(loaded, idle, strict=False),
    }
    for name, some in pairs.items():
        yield row(f"baseline, {name}", kept(some))
    unequal = sum(
        session["sizes"][HERE] != session["sizes"][THERE] or not session["same_predictions"] for session in sessions
    )
    yield from ["", f"Sizes or predictions differed in {unequal} of all {len(sessions)} sessions."]
    yield from ["", "## A slower int8: A/B's power", "", *HEADER]
    for slowdown in (2, 5, 10):
        for name in ("idle", "loaded"):
            yield row(f"{slowdown} % slower, {name}", [against(run) for run in pick(name, slowdown)])
        both_of_it = pick("idle", slowdown) + pick("loaded", slowdown)
        yield row(f"{slowdown} % slower, both", [against(run) for run in both_of_it])
    yield from [
        "",
        "## What was measured",
        "",
        "| | median | sd over sessions | least to most |",
        "|---|---:|---:|---|",
    ]
    for name, some in both:
        copies = [interval_over_processes(run.ratios((HERE, FLOAT32), (HERE, FLOAT32_COPY))) for run in some]
        yield f"| float32 over its copy, {name} | {spread([each.median for each in copies])} |"
        yield f"| speedup, {name} | {spread([run.speedup(SCHEME).median for run in some])} |"
        here = [run.us_per_token(HERE, FLOAT32) for run in some]
        yield f"| float32, us/token, {name} | {spread(here)} |"
        yield f"| int8 here over int8 there, {name} | {spread([slower(run) for run in some])} |"
        walls = [
            slower(run_of(each, "wall")) for each in sessions if (each["condition"], each["slowdown"]) == (name, 0)
        ]
        yield f"| the same by wall time, {name} | {spread(walls)} |"
    for slowdown in (2, 5, 10):
        some = pick("idle", slowdown) + pick("loaded", slowdown)
        yield f"| int8 slowed by {slowdown} % over int8 there | {spread([slower(run) for run in some])} |"
    yield from ["", "| | seconds a session | load average at its start |", "|---|---|---|"]
    for name in ("idle", "loaded"):
        took = [session["took"] for session in sessions if session["condition"] == name]
        load = [session["load"] for session in sessions if session["condition"] == name]
        if took:
            extremes = [f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in (took, load)]
            yield f"| {name} | {extremes[0]} | {extremes[1]} |"
    machines = Counter(
        f"{each['machine']['cpu']} ({each['machine']['isa']}), torch {each['machine']['torch']}, "
        f"{each['date'][:10]}, {each['condition']}"
        for each in sessions
    )
    yield from ["", *(f"- {count} sessions: {machine}" for machine, count in machines.items())]


def slower(run):
    return interval_over_processes(run.ratios((HERE, SCHEME), (THERE, SCHEME))).median


def main():
    """Replace what follows the mark in ``README.md``."""
    readme = FOLDER / "README.md"
    mark = "<!-- results.py writes what follows -->\n"
    head = readme.read_text(encoding="utf-8").partition(mark)[0]
    readme.write_text(head + mark + "\n" + "\n".join(page(read(SESSIONS))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

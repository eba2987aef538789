"""Writes the tables of ``README.md`` from the sessions that ``run.py`` saved."""

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import msgspec
from intervals import binomial_interval
from run import KINDS, Kind
from sessions import CONDITIONS, Session, condition_of, read_sessions

from lstmq.gate import Outcome, Run
from lstmq.gate.judge_pair import judge_kept_speedup, judge_slower

README = Path(__file__).with_name("README.md")
MARKER = "<!-- results.py writes what follows -->\n"
OUTCOMES = {0: "PASS", 1: "FAIL", 10: "INCONCLUSIVE", 11: "INVALID", 12: "NOT MEASURED"}  # by exit code
TOLERANCES = (0.015, 0.02, 0.025)
SLOWER_BASELINE = 1.2  # how much slower int8 is made in the recorded seconds, to see what a baseline finds


def load_run(session: Session) -> Run:
    """Return the run of a session."""
    return msgspec.convert({name: value for name, value in session["run"].items() if name != "verdicts"}, Run)


def of_kind(sessions: Sequence[Session], kind: str, condition: str) -> list[Session]:
    return [session for session in sessions if (session["kind"], condition_of(session)) == (kind, condition)]


def unchanged(sessions: Sequence[Session]) -> list[Session]:
    """Return the sessions in which int8 was not made slower."""
    return [session for session in sessions if not KINDS[session["kind"]].slower]


def at_most(count: int, trials: int) -> str:
    """Return the exact upper bound of a probability, with 95 % confidence."""
    return f"at most {100 * binomial_interval(count, trials, 0.9)[1]:.1f} %"


def at_least(count: int, trials: int) -> str:
    """Return the exact lower bound of a probability, with 95 % confidence."""
    return f"at least {100 * binomial_interval(count, trials, 0.9)[0]:.1f} %"


def options_of(kind: Kind) -> str:
    """Return the options of a session's command, without what differs from session to session."""
    compared = {"": "", "run": "--benchmark-compare"}.get(kind.other, "--gate-against PYTHON")
    options = " ".join(filter(None, (compared, *kind.options)))
    return f"`{options}`" if options else "no option"


def summary_rows(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield the table that the docs show. It counts idle and loaded sessions with the same options together."""
    yield "| options | int8 | sessions | with 95 % confidence | median time: idle, loaded | longest |"
    yield "|---|---|---|---|---:|---:|"
    groups: dict[tuple[str, float], list[Session]] = {}
    for name, kind in KINDS.items():
        some = [session for session in sessions if session["kind"] == name]
        groups.setdefault((options_of(kind), kind.slower), []).extend(some)
    for (options, slower), some in groups.items():
        if some:
            code = f"{100 * slower:.0f} % slower" if slower else "unchanged"
            took = [[one["took"] for one in some if condition_of(one) == condition] for condition in CONDITIONS]
            medians = ", ".join(f"{statistics.median(seconds):.0f} s" for seconds in took if seconds)
            longest = max(one["took"] for one in some)
            yield f"| {options} | {code} | {summarize(some, slower)} | {medians} | {longest:.0f} s |"
    yield f"| any of these | unchanged | {summarize(unchanged(sessions), 0)} | | |"


def summarize(sessions: Sequence[Session], slower: float) -> str:
    """Return how many sessions gave each verdict, and the bound that follows."""
    codes = Counter(session["exit_code"] for session in sessions)
    counts = ", ".join(f"{codes[code]} {name}" for code, name in OUTCOMES.items() if codes[code])
    if slower:
        return f"{counts} | {at_least(codes[1], len(sessions))} fail"
    return f"{counts} | {at_most(len(sessions) - codes[0], len(sessions))} do not pass"


def outcome_rows(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield the table of exit codes: what the commands gave, for each kind and condition."""
    yield f"| session | machine | sessions | {' | '.join(OUTCOMES.values())} | not PASS, 95 % | FAIL, 95 % |"
    yield f"|---|---|---:|{'---:|' * len(OUTCOMES)}---|---|"
    groups = [(kind, name, of_kind(sessions, kind, name)) for kind in KINDS for name in CONDITIONS]
    groups += [
        ("all unchanged", name, [one for one in unchanged(sessions) if condition_of(one) == name])
        for name in CONDITIONS
    ]
    for kind, condition, some in groups:
        if some:
            bound = at_least if kind in KINDS and KINDS[kind].slower else at_most
            codes = Counter(session["exit_code"] for session in some)
            counts = " | ".join(str(codes[code]) for code in OUTCOMES)
            bounds = f"{bound(len(some) - codes[0], len(some))} | {bound(codes[1], len(some))}"
            yield f"| {kind} | {condition} | {len(some)} | {counts} | {bounds} |"


def time_rows(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield the table of how long sessions took, and after which look they ended."""
    yield "| session | machine | seconds: median | least | most | ended after look 1 | 2 | 3 |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    for kind in KINDS:
        for condition in CONDITIONS:
            if some := of_kind(sessions, kind, condition):
                took = [session["took"] for session in some]
                looks = Counter(len(session["run"]["recording"]["undecided"]) for session in some)
                seconds = f"{statistics.median(took):.0f} | {min(took):.0f} | {max(took):.0f}"
                yield f"| {kind} | {condition} | {seconds} | {looks[1]} | {looks[2]} | {looks[3]} |"


def spread_rows(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield the table of measured figures."""
    yield "| figure | session | sessions | median | standard deviation | least | most |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for kind in KINDS:
        runs = [load_run(session) for session in sessions if session["kind"] == kind]
        for scheme in ("int8", "int8-native"):
            measured = [run for run in runs if scheme in run.recording.here.seconds]
            speedups = [run.speedup(scheme).median for run in measured]
            slower = [judge_slower(run.recording, scheme).figure for run in measured if run.recording.there]
            for name, figures in (
                (f"{scheme} speedup", speedups),
                (f"{scheme} slower", [f.median for f in slower if f]),
            ):
                if len(figures) > 1:
                    ends = f"{min(figures):.3f} | {max(figures):.3f}"
                    row = f"{statistics.median(figures):.3f} | {statistics.stdev(figures):.4f} | {ends}"
                    yield f"| {name} | {kind} | {len(figures)} | {row} |"


def tolerance_rows(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield the table of verdicts on ``slower`` that other tolerances would have given, from the same seconds.

    A session that ended early cannot look again, so what it leaves open counts as undecided.
    """
    yield "| tolerance | unchanged sessions | PASS | undecided | FAIL |"
    yield "|---:|---:|---:|---:|---:|"
    compared = [session for session in unchanged(sessions) if KINDS[session["kind"]].other in ("same", "apart")]
    recordings = [load_run(session).recording for session in compared]
    for tolerance in TOLERANCES:
        changed = [replace(one, plan=replace(one.plan, tolerance=tolerance)) for one in recordings]
        worst = Counter(
            max(
                (judge_slower(recording, scheme).outcome for scheme in recording.plan.schemes),
                key=[Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL].index,
            )
            for recording in changed
        )
        counts = f"{worst[Outcome.PASS]} | {worst[Outcome.INCONCLUSIVE]} | {worst[Outcome.FAIL]}"
        yield f"| {tolerance:.1%} | {len(recordings)} | {counts} |"


def baseline_rows(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield the table of every default session against every other, as if that was its saved run."""
    yield "| saved | now | int8 | pairs | PASS | undecided | FAIL |"
    yield "|---|---|---|---:|---:|---:|---:|"
    runs = {name: [load_run(session) for session in of_kind(sessions, "default", name)] for name in CONDITIONS}
    for saved in CONDITIONS:
        for now in CONDITIONS:
            for name, slower in (("unchanged", 1.0), ("20 % slower", SLOWER_BASELINE)):
                pairs = permutations(runs[now], 2) if now == saved else ((a, b) for a in runs[saved] for b in runs[now])
                outcomes = Counter(judge_kept_speedup(slow_down(b, slower), a, "int8").outcome for a, b in pairs)
                counts = [outcomes[one] for one in (Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.FAIL)]
                yield f"| {saved} | {now} | {name} | {sum(counts)} | {' | '.join(map(str, counts))} |"


def slow_down(run: Run, factor: float) -> Run:
    """Return a run in which int8 took so many times as long."""
    here = run.recording.here
    slower = [[time and factor * time for time in process] for process in here.seconds["int8"]]
    here = replace(here, seconds={**here.seconds, "int8": slower})
    return replace(run, recording=replace(run.recording, here=here))


def machine_rows(sessions: Sequence[Session]) -> Iterator[str]:
    """Yield a line for each machine and day."""
    machines = Counter(
        "{cpu} ({isa}), torch {torch}".format(**session["run"]["recording"]["here"]["machine"])
        + f", {session['date'][:10]}, {condition_of(session)}"
        for session in sessions
    )
    yield from (f"- {count} sessions: {machine}" for machine, count in machines.items())


def tables(sessions: Sequence[Session]) -> str:
    """Return the tables, in Markdown."""
    sections = {
        "Summary": summary_rows,
        "Exit codes": outcome_rows,
        "Time": time_rows,
        "Figures": spread_rows,
        "Other tolerances": tolerance_rows,
        "Baselines": baseline_rows,
        "Machines": machine_rows,
    }
    return "\n\n".join(f"## {title}\n\n" + "\n".join(rows(sessions)) for title, rows in sections.items()) + "\n"


def main() -> None:
    """Replace what follows the marker in the README."""
    head = README.read_text(encoding="utf-8").partition(MARKER)[0]
    README.write_text(f"{head}{MARKER}\n{tables(read_sessions())}", encoding="utf-8")


if __name__ == "__main__":
    main()

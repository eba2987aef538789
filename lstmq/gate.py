"""Judging what a session measured: by floors, another environment, a saved run. It knows nothing of pytest."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from lstmq.environments import HERE, THERE
from lstmq.floors import OTHERS, Floors, limits, rows_of
from lstmq.intervals import Interval, exactly, median_interval, over_workers
from lstmq.quantization import FLOAT32
from lstmq.runs import Run
from lstmq.verdicts import Outcome, Verdict, decide, in_words
from lstmq.worker import COPY

# benchmarks/study/ tries them, all but COPY_SPREAD on sessions other than those that they were set by.
SLOWER_THAN_THERE = 0.025  # the share by which a scheme may be slower than in the other environment
SPEEDUP_LOST = 0.25  # the share of a saved run's speedup that another hour, and a busy machine, may take
CONTAINER = 4096  # bytes that another torch's file format may take beside the weights: from 2.2 to 2.13 it was 333
WORSE_LOSS = 0.001  # nats per token; torch 2.14 rounds dynamic quantization anew, which moved int8's loss by 0.00008
WORSE_KL = 1.25  # times what it was
COPY_OFF = 0.02  # float32's copy lies in other memory, which makes it this much slower or faster and no more
COPY_SPREAD = 0.4  # from end to end of the interval; idle, one process whose four slices are off makes it up to 0.25
DID_NOT_END = "its benchmark was deselected, skipped, renamed, or failed"
MEASURE_MORE = "--workers 12, or more --pairs, would decide it"


def judge(run: Run, baseline: Run | None = None) -> list[Verdict]:
    """Judge all that a run gates, and fail closed: a scheme whose benchmark did not end is not measured."""
    verdicts = judge_session(run)
    for scheme in run.recording.plan["schemes"]:
        if scheme in run.cases or scheme in run.recording.environments[HERE]["absent"]:
            verdicts += judge_scheme(run, scheme, baseline)
        else:
            verdicts.append(not_measured(scheme, "all", DID_NOT_END))
    return verdicts + judge_others(run.others, run.failures, run.floors, run.machine["isa"], run.exempt)


def judge_others(
    others: Mapping[str, Mapping[str, Mapping[str, float]]],
    failures: Collection[str],
    floors: Floors,
    isa: str,
    exempt: Collection[str],
) -> list[Verdict]:
    """Judge the cases that are no scheme's: those with figures, those that have only rows, those that failed."""
    verdicts = []
    for case, figures in others.items():
        verdicts += judge_other(case, figures, floors, isa, exempt)
    for case in OTHERS:
        if case not in others and rows_of(floors, case, isa):
            verdicts.append(not_measured(case, "all", DID_NOT_END))
    failed = [not_measured(case, "all", "it failed, and for no figure", "case") for case in failures]
    return verdicts + [replace(verdict, outcome=Outcome.FAIL) for verdict in failed]


def judge_other(
    case: str, figures: Mapping[str, Mapping[str, float]], floors: Floors, isa: str, exempt: Collection[str]
) -> list[Verdict]:
    """Hold the figures of a case that is no scheme's, intervals as mappings, against its rows."""
    intervals = {metric: Interval(**figure) for metric, figure in figures.items()}
    # Training is measured on the sample's small model, whatever the workload.
    return judge_floors(case, intervals, floors, isa, exempt if case != "train" else ())


def judge_scheme(run: Run, scheme: str, baseline: Run | None = None) -> list[Verdict]:
    """Ask all the questions of one scheme. Of an invalid session only what is not noisy is judged."""
    here = run.recording.environments[HERE]
    if scheme in here["absent"]:
        return [not_measured(scheme, "all", here["absent"][scheme])]
    if not rows_of(run.floors, scheme, run.machine["isa"]):
        return [not_measured(scheme, "all", "the floors have no row of it")]
    verdicts = judge_floors(scheme, run.figures(scheme), run.floors, run.machine["isa"], run.exempt)
    verdicts = [_with_arms(run, scheme, verdict) if verdict.metric == "speedup" else verdict for verdict in verdicts]
    if THERE in run.recording.environments:
        verdicts += judge_against(run, scheme)
    if baseline:
        verdicts += judge_baseline(run, baseline, scheme)
    if is_noisy(run):
        verdicts = [_invalid(verdict) for verdict in verdicts]
    return verdicts


def _invalid(verdict: Verdict) -> Verdict:
    if not verdict.figure.lower < verdict.figure.upper or verdict.outcome is Outcome.UNJUDGED:
        return verdict
    return replace(verdict, outcome=Outcome.INVALID, details=f"too noisy to judge here; {verdict.details}")


def is_noisy(run: Run) -> bool:
    """Tell whether float32 differed from its own copy, in any environment."""
    return any(verdict.outcome is Outcome.INVALID for verdict in judge_session(run))


def judge_session(run: Run) -> list[Verdict]:
    """See whether float32 and a copy of itself are equally fast, as they are, in each environment."""
    return [_judge_copy(run, environment) for environment in run.recording.environments]


def _judge_copy(run: Run, environment: str) -> Verdict:
    figure = over_workers(run.ratios((environment, FLOAT32), (environment, COPY)))
    off = not (figure.lower <= 1 + COPY_OFF and figure.upper >= 1 - COPY_OFF)
    noisy = off or not figure.width <= COPY_SPREAD
    return Verdict(
        question="session",
        case=FLOAT32,
        metric="over its own copy" if environment == HERE else f"over its own copy, {environment}",
        outcome=Outcome.INVALID if noisy else Outcome.PASS,
        figure=figure,
        limit=f"1 within {COPY_OFF:.0%}, no wider than {COPY_SPREAD:.0%}",
        details="too noisy to judge here: run again, elsewhere, or with more --pairs" if noisy else "",
    )


def judge_floors(
    case: str, figures: Mapping[str, Interval], floors: Floors, isa: str, exempt: Collection[str] = ()
) -> list[Verdict]:
    """Hold each figure of a case against its row; a row whose figure is not there is not measured.

    Args:
        case: ``int8``, say.
        figures: by metric.
        floors: from :func:`lstmq.floors.load_floors`.
        isa: the processor's, as :mod:`lstmq.machine` tells it.
        exempt: metrics that these floors are not for.
    """
    rows = rows_of(floors, case, isa)
    verdicts = []
    for metric, figure in figures.items():
        row, details = rows.get(metric), ""
        if row is None or metric in exempt:
            outcome = Outcome.UNJUDGED
            limit = "no limit" if row is None else "its limit is of another shape or text"
        else:
            outcome = decide(figure, row.get("at_least", -math.inf), row.get("at_most", math.inf))
            limit = limits(row)
            if outcome is not Outcome.PASS and "measured" in row:
                details = f"it was {row['measured']} on {row.get('date', 'a day')}, {row.get('machine', 'a machine')}"
        if outcome is Outcome.INCONCLUSIVE:
            details += f"{'; ' * bool(details)}{MEASURE_MORE}"
        verdicts.append(
            Verdict(
                question="floor",
                case=case,
                metric=metric,
                outcome=outcome,
                figure=figure,
                limit=limit,
                details=details,
            )
        )
    for metric in rows.keys() - figures.keys():
        verdicts.append(not_measured(case, metric, f"a row for none of {', '.join(figures)}"))
    return verdicts


def not_measured(case: str, metric: str, limit: str, question: str = "floor") -> Verdict:
    """Return the verdict on a figure that is not there."""
    return Verdict(
        question=question,
        case=case,
        metric=metric,
        outcome=Outcome.NOT_MEASURED,
        figure=exactly(math.nan),
        limit=limit,
    )


def judge_against(run: Run, scheme: str) -> list[Verdict]:
    """Hold a scheme against itself in the other environment, slice by slice of the same session."""
    absent = run.recording.environments[THERE]["absent"]
    if scheme in absent:
        return [not_measured(scheme, "slower", f"not there: {absent[scheme]}", "against")]
    return [judge_slower(run, scheme), *_judge_rightness("against", scheme, (run, HERE), (run, THERE))]


def judge_slower(run: Run, scheme: str) -> Verdict:
    """Judge the seconds of a scheme here over its seconds there."""
    slower = over_workers(run.ratios((HERE, scheme), (THERE, scheme)))
    float32 = over_workers(run.ratios((HERE, FLOAT32), (THERE, FLOAT32)))
    outcome = decide(slower, at_most=1 + SLOWER_THAN_THERE)
    advice = f"; {MEASURE_MORE}" if outcome is Outcome.INCONCLUSIVE else ""
    return Verdict(
        question="against",
        case=scheme,
        metric="slower",
        outcome=outcome,
        figure=slower,
        limit=f"at most {1 + SLOWER_THAN_THERE}",
        details=_arms(scheme, (run, HERE), (run, THERE), (slower.median, float32.median)) + advice,
    )


def judge_baseline(run: Run, baseline: Run, scheme: str) -> list[Verdict]:
    """Hold a scheme against a saved run: its speedup, its bytes, its predictions."""
    if scheme not in baseline.recording.seconds[HERE]:
        verdict = not_measured(scheme, "kept speedup", "the baseline has no such scheme", "baseline")
        return [replace(verdict, outcome=Outcome.UNJUDGED)]
    return [judge_kept(run, baseline, scheme), *_judge_rightness("baseline", scheme, (run, HERE), (baseline, HERE))]


def judge_kept(run: Run, baseline: Run, scheme: str) -> Verdict:
    """Judge which share of a saved run's speedup is left; what another hour and other work may take is allowed."""
    now, then = run.speedup(scheme), baseline.speedup(scheme)
    lowest, highest = max(now.lower, 0) / then.upper, now.upper / then.lower if then.lower > 0 else math.inf
    kept = Interval(median=now.median / then.median, lower=lowest, upper=highest)
    changes = [run.us_per_token(HERE, arm) / baseline.us_per_token(HERE, arm) for arm in (scheme, FLOAT32)]
    outcome = decide(kept, at_least=1 - SPEEDUP_LOST)
    advice = "; --gate-against decides it" if outcome is Outcome.INCONCLUSIVE else ""
    return Verdict(
        question="baseline",
        case=scheme,
        metric="kept speedup",
        outcome=outcome,
        figure=kept,
        limit=f"at least {1 - SPEEDUP_LOST} of {then.median:.3g}",
        details=_arms(scheme, (run, HERE), (baseline, HERE), (changes[0], changes[1])) + advice,
    )


def _judge_rightness(question: str, scheme: str, now: tuple[Run, str], then: tuple[Run, str]) -> list[Verdict]:
    """Compare what is not noisy: bytes exactly, the losses of the same windows, the divergence from float32."""
    sizes = [run.size(environment, scheme) for run, environment in (now, then)]
    fidelity = [run.fidelity(environment, scheme) for run, environment in (now, then)]
    if fidelity[0].tokens != fidelity[1].tokens:
        return [not_measured(scheme, "loss moved", "losses of other windows", question)]
    moved = [a - b for a, b in zip(fidelity[0].losses, fidelity[1].losses, strict=True)]
    window = median_interval(moved)
    loss, kl = fidelity[0].loss - fidelity[1].loss, WORSE_KL * fidelity[1].kl + 1e-6
    torches = {run.recording.environments[environment]["machine"]["torch"] for run, environment in (now, then)}
    size = sizes[1] + (CONTAINER if len(torches) > 1 else 0)
    return [
        Verdict(
            question=question,
            case=scheme,
            metric=metric,
            outcome=decide(exactly(figure), at_most=at_most),
            figure=exactly(figure),
            limit=f"at most {in_words(at_most)}",
            details=details,
        )
        for metric, figure, at_most, details in (
            ("bytes", sizes[0], size, f"{sizes[0] - sizes[1]:+,} bytes" if sizes[0] != sizes[1] else ""),
            ("loss moved", loss, WORSE_LOSS, f"the median window's by [{window.lower:+.2g}, {window.upper:+.2g}]"),
            ("kl", fidelity[0].kl, kl, ""),
        )
    ]


def _with_arms(run: Run, scheme: str, verdict: Verdict) -> Verdict:
    """Say both arms in us/token before what there is to say."""
    arms = [f"{arm} {run.us_per_token(HERE, arm):.1f}" for arm in (scheme, FLOAT32)]
    return replace(verdict, details=f"{arms[0]} us/token; {arms[1]}{'; ' * bool(verdict.details)}{verdict.details}")


def _arms(scheme: str, now: tuple[Run, str], then: tuple[Run, str], changes: tuple[float, float]) -> str:
    """Say both arms in us/token, now and then, and which moved, by the times that each takes of what it took."""
    other = "there" if then[1] == THERE else "then"
    arms = [
        f"{arm} {now[0].us_per_token(now[1], arm):.1f}{unit}, {other} {then[0].us_per_token(then[1], arm):.1f}"
        for arm, unit in ((scheme, " us/token"), (FLOAT32, ""))
    ]
    moved = [
        f"{arm} got {'slower' if change > 1 else 'faster'}"
        for arm, change in zip((scheme, FLOAT32), changes, strict=True)
        if abs(change - 1) > SLOWER_THAN_THERE
    ]
    return f"{'; '.join(arms)}: {' and '.join(moved) or 'neither moved'}"

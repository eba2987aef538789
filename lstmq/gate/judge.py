"""Judging what a session measured: by floors, another environment, a saved run. It knows nothing of pytest."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from lstmq.gate.limits import OTHER_CASES, Limits, describe_limit, limits_for
from lstmq.gate.paired import judge_against, judge_baseline
from lstmq.gate.processes import HERE, THERE
from lstmq.gate.runs import Run
from lstmq.gate.statistics import ConfidenceInterval, interval_over_processes
from lstmq.gate.verdicts import MEASURE_MORE, Outcome, Verdict, decide, not_measured
from lstmq.gate.worker import FLOAT32_COPY
from lstmq.quantization import FLOAT32

# benchmarks/study/ tries them; the second was set by sessions of it.
COPY_TOLERANCE = 0.02  # float32's copy lies in other memory, which makes it this much slower or faster and no more
COPY_MAX_WIDTH = 0.4  # from end to end of the interval; idle, one process whose four slices are off makes it up to 0.25
DID_NOT_FINISH = "its benchmark was deselected, skipped, renamed, or failed"


def judge_run(run: Run, baseline: Run | None = None) -> list[Verdict]:
    """Judge all that a run gates, and fail closed: a scheme whose benchmark did not end is not measured."""
    verdicts = judge_session(run)
    for scheme in run.recording.plan["schemes"]:
        if scheme in run.cases or scheme in run.recording.environments[HERE]["absent"]:
            verdicts += judge_scheme(run, scheme, baseline)
        else:
            verdicts.append(not_measured(scheme, "all", DID_NOT_FINISH))
    return verdicts + judge_other_cases(run.others, run.failures, run.floors, run.machine["isa"], run.exempt)


def judge_other_cases(
    others: Mapping[str, Mapping[str, Mapping[str, float]]],
    failures: Collection[str],
    floors: Limits,
    isa: str,
    exempt: Collection[str],
) -> list[Verdict]:
    """Judge the cases that are no scheme's: those with figures, those that have only rows, those that failed."""
    verdicts = []
    for case, figures in others.items():
        verdicts += judge_other_case(case, figures, floors, isa, exempt)
    for case in OTHER_CASES:
        if case not in others and limits_for(floors, case, isa):
            verdicts.append(not_measured(case, "all", DID_NOT_FINISH))
    failed = [not_measured(case, "all", "it failed, and for no figure", "case") for case in failures]
    return verdicts + [replace(verdict, outcome=Outcome.FAIL) for verdict in failed]


def judge_other_case(
    case: str, figures: Mapping[str, Mapping[str, float]], floors: Limits, isa: str, exempt: Collection[str]
) -> list[Verdict]:
    """Hold the figures of a case that is no scheme's, intervals as mappings, against its rows."""
    intervals = {metric: ConfidenceInterval(**figure) for metric, figure in figures.items()}
    # Training is measured on the sample's small model, whatever the workload.
    return judge_limits(case, intervals, floors, isa, exempt if case != "train" else ())


def judge_scheme(run: Run, scheme: str, baseline: Run | None = None) -> list[Verdict]:
    """Ask all the questions of one scheme. Of an invalid session only what is not noisy is judged."""
    here = run.recording.environments[HERE]
    if scheme in here["absent"]:
        return [not_measured(scheme, "all", here["absent"][scheme])]
    if not limits_for(run.floors, scheme, run.machine["isa"]):
        return [not_measured(scheme, "all", "the floors have no row of it")]
    verdicts = judge_limits(scheme, run.figures(scheme), run.floors, run.machine["isa"], run.exempt)
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
    figure = interval_over_processes(run.ratios((environment, FLOAT32), (environment, FLOAT32_COPY)))
    off = not (figure.lower <= 1 + COPY_TOLERANCE and figure.upper >= 1 - COPY_TOLERANCE)
    noisy = off or not figure.width <= COPY_MAX_WIDTH
    return Verdict(
        question="session",
        case=FLOAT32,
        metric="over its own copy" if environment == HERE else f"over its own copy, {environment}",
        outcome=Outcome.INVALID if noisy else Outcome.PASS,
        figure=figure,
        limit=f"1 within {COPY_TOLERANCE:.0%}, no wider than {COPY_MAX_WIDTH:.0%}",
        details="too noisy to judge here: run again, elsewhere, or with more --pairs" if noisy else "",
    )


def judge_limits(
    case: str, figures: Mapping[str, ConfidenceInterval], floors: Limits, isa: str, exempt: Collection[str] = ()
) -> list[Verdict]:
    """Hold each figure of a case against its row; a row whose figure is not there is not measured.

    Args:
        case: ``int8``, say.
        figures: by metric.
        floors: from :func:`lstmq.floors.load_floors`.
        isa: the processor's, as :mod:`lstmq.machine` tells it.
        exempt: metrics that these floors are not for.
    """
    rows = limits_for(floors, case, isa)
    verdicts = []
    for metric, figure in figures.items():
        row, details = rows.get(metric), ""
        if row is None or metric in exempt:
            outcome = Outcome.UNJUDGED
            limit = "no limit" if row is None else "its limit is of another shape or text"
        else:
            outcome = decide(figure, row.get("at_least", -math.inf), row.get("at_most", math.inf))
            limit = describe_limit(row)
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


def _with_arms(run: Run, scheme: str, verdict: Verdict) -> Verdict:
    """Say both arms in us/token before what there is to say."""
    arms = [f"{arm} {run.us_per_token(HERE, arm):.1f}" for arm in (scheme, FLOAT32)]
    return replace(verdict, details=f"{arms[0]} us/token; {arms[1]}{'; ' * bool(verdict.details)}{verdict.details}")

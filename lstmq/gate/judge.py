"""Judges a run: every figure against its limit, the other environment, and the baseline. Independent of pytest."""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from lstmq.gate.judge_pair import judge_against, judge_baseline
from lstmq.gate.limits import OTHER_CASES, Limits, judge_figure, limits_for
from lstmq.gate.recording import FLOAT32_COPY, Recording
from lstmq.gate.runs import Run
from lstmq.gate.statistics import ConfidenceInterval, Figure, Sample
from lstmq.gate.verdicts import Outcome, Verdict, not_measured, worst
from lstmq.quantization import FLOAT32

# benchmarks/study measures how often these are right. They were chosen from other sessions.
COPY_TOLERANCE = 0.02  # share by which float32 and its copy may differ because they lie elsewhere in memory
COPY_MAX_WIDTH = 0.4  # widest interval of that ratio
Figures = Mapping[str, Figure]  # by metric
DID_NOT_FINISH = "its benchmark was deselected, skipped, renamed, or failed"


def judge_run(run: Run, baseline: Run | None = None) -> list[Verdict]:
    """Return a verdict for everything that a run gates. A scheme whose benchmark did not finish is not measured."""
    verdicts = judge_session(run)
    for scheme in run.recording.plan.schemes:
        if scheme in run.cases or scheme in run.recording.here.absent:
            verdicts += judge_scheme(run, scheme, baseline)
        else:
            verdicts.append(not_measured(scheme, "all", DID_NOT_FINISH))
    return verdicts + judge_other_cases(run.others, run.failures, run.limits, run.machine.isa)


def judge_session(run: Run) -> list[Verdict]:
    """Check, in each environment, that float32 and its copy are equally fast, and that all figures are finite."""
    return [*_judge_copies(run), *_judge_finite(run.recording)]


def _judge_copies(run: Run) -> list[Verdict]:
    recording = run.recording
    return [_judge_copy(name, recording.over_copy(side)) for name, side in recording.environments.items()]


def _judge_copy(name: str, sample: Sample) -> Verdict:
    figure = sample.settle(_is_calm)
    is_calm = _is_calm(figure)
    outcome = Outcome.PASS if is_calm else Outcome.INVALID
    metric = "over its copy" if name == "here" else f"over its copy, {name}"
    limit = f"1 within {COPY_TOLERANCE:.0%}, no wider than {COPY_MAX_WIDTH:.0%}"
    advice = "" if is_calm else "too noisy to judge: run again, on a calmer machine, or with more --gate-slices"
    return Verdict("session", FLOAT32, metric, outcome, figure, limit, advice)


def _is_calm(figure: ConfidenceInterval) -> bool:
    is_equal = figure.lower <= 1 + COPY_TOLERANCE and figure.upper >= 1 - COPY_TOLERANCE
    return is_equal and figure.width <= COPY_MAX_WIDTH


def _judge_finite(recording: Recording) -> Iterator[Verdict]:
    """Yield a verdict for each loss and divergence that is not a finite number, which says whose it is."""
    for name, environment in recording.environments.items():
        where = "" if name == "here" else f", {name}"
        for model, fidelity in environment.fidelity.items():
            for metric, figure in (("loss", fidelity.loss), ("kl", fidelity.kl)):
                if figure is not None and not math.isfinite(figure):
                    text = "NaN" if math.isnan(figure) else "infinite"
                    limit = f"a finite number; {model}'s own {metric} is {text}{where}"
                    yield Verdict("session", model, f"{metric}{where}", Outcome.INVALID, None, limit)


def undecided_figures(run: Run, baseline: Run | None = None) -> dict[str, tuple[str, ...]]:
    """Return the noisy figures that are not settled yet, each with the models that must be read on for it.

    Args:
        run: a run, with all blocks that were measured so far.
        baseline: the saved run that it is compared with.
    """
    recording = run.recording
    undecided: dict[str, tuple[str, ...]] = {}
    for verdict in _judge_copies(run):
        if verdict.outcome is Outcome.INVALID:
            undecided[f"{verdict.case} {verdict.metric}"] = (FLOAT32, FLOAT32_COPY)
    for scheme in recording.plan.schemes:
        if scheme not in recording.here.absent and limits_for(run.limits, scheme, run.machine.isa):
            for verdict in _judge_figures(run, scheme, baseline):
                if verdict.outcome is Outcome.INCONCLUSIVE:
                    models = (scheme,) if verdict.question == "against" else (FLOAT32, scheme)
                    undecided[f"{verdict.case} {verdict.metric}"] = models
    return undecided


def is_noisy(run: Run) -> bool:
    """Return whether float32 and its copy differ too much, or by an unknown amount, in any environment."""
    return any(verdict.outcome is Outcome.INVALID for verdict in _judge_copies(run))


def judge_scheme(run: Run, scheme: str, baseline: Run | None = None) -> list[Verdict]:
    """Judge one scheme. In a noisy session, only the exact figures are judged."""
    if scheme in run.recording.here.absent:
        return [not_measured(scheme, "all", run.recording.here.absent[scheme])]
    if not limits_for(run.limits, scheme, run.machine.isa):
        return [not_measured(scheme, "all", "the limits have no row for it")]
    verdicts = _judge_figures(run, scheme, baseline)
    return [_invalidate(verdict) for verdict in verdicts] if is_noisy(run) else verdicts


def _judge_figures(run: Run, scheme: str, baseline: Run | None) -> list[Verdict]:
    """Judge the figures of a scheme as if the machine was calm."""
    verdicts = judge_limits(scheme, run.figures(scheme), run.limits, run.machine.isa, run.exempt)
    verdicts = [
        _with_times(run, verdict) if verdict.figure and "speedup" in verdict.metric else verdict for verdict in verdicts
    ]
    if run.recording.there:
        verdicts += judge_against(run.recording, scheme)
    if baseline:
        verdicts += judge_baseline(run, baseline, scheme)
    return verdicts


def scheme_outcome(run: Run, scheme: str) -> Outcome:
    """Return the worst outcome for one scheme and for the machine, judged by the limits of the run."""
    verdicts = judge_scheme(run, scheme) if scheme in run.cases else []
    return worst([*verdicts, *judge_session(run)]) if verdicts else Outcome.NOT_MEASURED


def _with_times(run: Run, verdict: Verdict) -> Verdict:
    """Add the times of the scheme and of float32 to a verdict on their ratio."""
    here, plan = run.recording.here, run.recording.plan
    unit, time = ("us/word", here.us_per_word) if verdict.metric == "word_speedup" else ("us/token", here.us_per_token)
    times = f"{verdict.case} {time(verdict.case, plan):.1f} {unit}; {FLOAT32} {time(FLOAT32, plan):.1f}"
    return replace(verdict, details="; ".join(filter(None, [times, verdict.details])))


def _invalidate(verdict: Verdict) -> Verdict:
    """Return the verdict of a noisy session: a figure that is not exact is invalid."""
    if verdict.figure is None or not verdict.figure.lower < verdict.figure.upper or verdict.outcome is Outcome.UNJUDGED:
        return verdict
    return replace(verdict, outcome=Outcome.INVALID, details=f"too noisy to judge; {verdict.details}")


def judge_limits(case: str, figures: Figures, limits: Limits, isa: str, exempt: Collection[str] = ()) -> list[Verdict]:
    """Judge the figures of a case by its limits. A limit without a figure is not measured.

    Args:
        case: such as ``int8``.
        figures: by metric.
        limits: from :func:`~lstmq.gate.limits.load_limits`.
        isa: the instruction set of the processor.
        exempt: metrics that the limits do not apply to.
    """
    rows = limits_for(limits, case, isa)
    verdicts = []
    for metric, figure in figures.items():
        row = rows.get(metric)
        if row is None or metric in exempt:
            reason = "no limit" if row is None else "its limit is for another shape or text"
            shown = figure.settle(lambda _: True) if isinstance(figure, Sample) else figure
            verdict = replace(not_measured(case, metric, reason), outcome=Outcome.UNJUDGED, figure=shown)
        else:
            verdict = judge_figure("limit", case, metric, figure, row)
            if verdict.outcome is not Outcome.PASS and row.measured is not None:
                before = f"measured {row.measured} on {row.date or 'an unknown day'}, {row.machine or 'elsewhere'}"
                verdict = replace(verdict, details="; ".join(filter(None, [before, verdict.details])))
        verdicts.append(verdict)
    missing = [metric for metric in rows if metric not in figures]
    return verdicts + [not_measured(case, metric, f"no such figure among {', '.join(figures)}") for metric in missing]


def judge_other_cases(
    others: Mapping[str, Figures], failures: Collection[str], limits: Limits, isa: str
) -> list[Verdict]:
    """Judge the benchmarks that do not measure a scheme, and report those that failed or did not run."""
    verdicts = []
    for case, figures in others.items():
        verdicts += judge_other_case(case, figures, limits, isa)
    for case in OTHER_CASES:
        if case not in others and limits_for(limits, case, isa):
            verdicts.append(not_measured(case, "all", DID_NOT_FINISH))
    failed = [not_measured(case, "all", "it failed without a figure", "case") for case in failures]
    return verdicts + [replace(verdict, outcome=Outcome.FAIL) for verdict in failed]


def judge_other_case(case: str, figures: Figures, limits: Limits, isa: str) -> list[Verdict]:
    """Judge a benchmark that does not measure a scheme."""
    return judge_limits(case, figures, limits, isa)

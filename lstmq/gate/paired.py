"""A scheme against itself: in another environment of the same session, :func:`judge_against`, or in a saved run."""

import math
from dataclasses import replace

from lstmq.gate.processes import HERE, THERE
from lstmq.gate.runs import Run
from lstmq.gate.statistics import ConfidenceInterval, exact, interval_over_processes, median_interval
from lstmq.gate.verdicts import MEASURE_MORE, Outcome, Verdict, decide, format_number, not_measured
from lstmq.quantization import FLOAT32

# benchmarks/study/ tries them on sessions other than those that they were set by.
AGAINST_TOLERANCE = 0.025  # the share by which a scheme may be slower than in the other environment
BASELINE_TOLERANCE = 0.25  # the share of a saved run's speedup that another hour, and a busy machine, may take
FILE_FORMAT_BYTES = (
    4096  # bytes that another torch's file format may take beside the weights: from 2.2 to 2.13 it was 333
)
MAX_LOSS_INCREASE = (
    0.001  # nats per token, or a share of another loss; rounding anew, in torch 2.14, moved int8 by 0.00008
)
MAX_KL_RATIO = 1.25  # times what it was


def judge_against(run: Run, scheme: str) -> list[Verdict]:
    """Hold a scheme against itself in the other environment, slice by slice of the same session."""
    absent = run.recording.environments[THERE]["absent"]
    if scheme in absent:
        return [not_measured(scheme, "slower", f"not there: {absent[scheme]}", "against")]
    return [judge_slower(run, scheme), *_judge_exact_figures("against", scheme, (run, HERE), (run, THERE))]


def judge_slower(run: Run, scheme: str) -> Verdict:
    """Judge the seconds of a scheme here over its seconds there."""
    slower = interval_over_processes(run.ratios((HERE, scheme), (THERE, scheme)))
    float32 = interval_over_processes(run.ratios((HERE, FLOAT32), (THERE, FLOAT32)))
    outcome = decide(slower, at_most=1 + AGAINST_TOLERANCE)
    advice = f"; {MEASURE_MORE}" if outcome is Outcome.INCONCLUSIVE else ""
    return Verdict(
        question="against",
        case=scheme,
        metric="slower",
        outcome=outcome,
        figure=slower,
        limit=f"at most {1 + AGAINST_TOLERANCE}",
        details=_describe_arms(scheme, (run, HERE), (run, THERE), (slower.median, float32.median)) + advice,
    )


def judge_baseline(run: Run, baseline: Run, scheme: str) -> list[Verdict]:
    """Hold a scheme against a saved run: its speedup, its bytes, its predictions."""
    if scheme not in baseline.recording.seconds[HERE]:
        verdict = not_measured(scheme, "kept speedup", "the baseline has no such scheme", "baseline")
        return [replace(verdict, outcome=Outcome.UNJUDGED)]
    return [
        judge_kept_speedup(run, baseline, scheme),
        *_judge_exact_figures("baseline", scheme, (run, HERE), (baseline, HERE)),
    ]


def judge_kept_speedup(run: Run, baseline: Run, scheme: str) -> Verdict:
    """Judge which share of a saved run's speedup is left; what another hour and other work may take is allowed."""
    now, then = run.speedup(scheme), baseline.speedup(scheme)
    lowest, highest = max(now.lower, 0) / then.upper, now.upper / then.lower if then.lower > 0 else math.inf
    kept = ConfidenceInterval(median=now.median / then.median, lower=lowest, upper=highest)
    changes = [run.us_per_token(HERE, arm) / baseline.us_per_token(HERE, arm) for arm in (scheme, FLOAT32)]
    outcome = decide(kept, at_least=1 - BASELINE_TOLERANCE)
    advice = "; --gate-against decides it" if outcome is Outcome.INCONCLUSIVE else ""
    return Verdict(
        question="baseline",
        case=scheme,
        metric="kept speedup",
        outcome=outcome,
        figure=kept,
        limit=f"at least {1 - BASELINE_TOLERANCE} of {then.median:.3g}",
        details=_describe_arms(scheme, (run, HERE), (baseline, HERE), (changes[0], changes[1])) + advice,
    )


def _judge_exact_figures(question: str, scheme: str, now: tuple[Run, str], then: tuple[Run, str]) -> list[Verdict]:
    """Compare what is not noisy: bytes exactly, the losses of the same windows, the divergence from float32."""
    sizes = [run.size(environment, scheme) for run, environment in (now, then)]
    fidelity = [run.fidelity(environment, scheme) for run, environment in (now, then)]
    if fidelity[0].tokens != fidelity[1].tokens:
        return [not_measured(scheme, "loss moved", "losses of other windows", question)]
    moved = [a - b for a, b in zip(fidelity[0].losses, fidelity[1].losses, strict=True)]
    window = median_interval(moved)
    loss, kl, was = fidelity[0].loss - fidelity[1].loss, fidelity[0].kl, fidelity[1].kl
    worse = (
        MAX_LOSS_INCREASE if was is not None else MAX_LOSS_INCREASE * abs(fidelity[1].loss)
    )  # a loss of one's own has any unit
    torches = {run.recording.environments[environment]["machine"]["torch"] for run, environment in (now, then)}
    size = sizes[1] + (FILE_FORMAT_BYTES if len(torches) > 1 else 0)
    figures = [
        ("bytes", sizes[0], size, f"{sizes[0] - sizes[1]:+,} bytes" if sizes[0] != sizes[1] else ""),
        ("loss moved", loss, worse, f"the median window's by [{window.lower:+.2g}, {window.upper:+.2g}]"),
    ]
    if kl is not None and was is not None:
        figures.append(("kl", kl, MAX_KL_RATIO * was + 1e-6, ""))
    return [
        Verdict(
            question=question,
            case=scheme,
            metric=metric,
            outcome=decide(exact(figure), at_most=at_most),
            figure=exact(figure),
            limit=f"at most {format_number(at_most)}",
            details=details,
        )
        for metric, figure, at_most, details in figures
    ]


def _describe_arms(scheme: str, now: tuple[Run, str], then: tuple[Run, str], changes: tuple[float, float]) -> str:
    """Say both arms in us/token, now and then, and which moved, by the times that each takes of what it took."""
    other = "there" if then[1] == THERE else "then"
    arms = [
        f"{arm} {now[0].us_per_token(now[1], arm):.1f}{unit}, {other} {then[0].us_per_token(then[1], arm):.1f}"
        for arm, unit in ((scheme, " us/token"), (FLOAT32, ""))
    ]
    moved = [
        f"{arm} got {'slower' if change > 1 else 'faster'}"
        for arm, change in zip((scheme, FLOAT32), changes, strict=True)
        if abs(change - 1) > AGAINST_TOLERANCE
    ]
    return f"{'; '.join(arms)}: {' and '.join(moved) or 'neither moved'}"

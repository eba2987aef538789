"""Judges a scheme against itself: in another environment of the same session, or in a saved run."""

import statistics
from dataclasses import replace

from lstmq.gate.limits import Limit, judge_figure
from lstmq.gate.recording import EnvironmentRecording, Recording
from lstmq.gate.runs import Run
from lstmq.gate.statistics import exact, median_interval
from lstmq.gate.verdicts import Outcome, Verdict, not_measured
from lstmq.quantization import FLOAT32

# benchmarks/study tests these on other sessions than those they were chosen from.
BASELINE_TOLERANCE = 0.11  # share of a baseline's speedup that another day or a busier machine may take
MIN_CHANGE = 0.02  # smallest change of a time that is worth a word
FILE_FORMAT_BYTES = 4096  # that the file format of another torch may add; from torch 2.2 to 2.13 it added 333
MAX_LOSS_INCREASE = 0.001  # nats per token, or a share of a loss with another unit; torch 2.14 moved int8 by 0.00008
MAX_KL_RATIO = 1.25


def judge_against(recording: Recording, scheme: str) -> list[Verdict]:
    """Judge a scheme against itself in the other environment, slice by slice of the same session."""
    here, there = recording.here, recording.there
    assert there  # noqa: S101 - the caller has checked it
    if scheme in there.absent:
        return [not_measured(scheme, "slower", f"not in the other environment: {there.absent[scheme]}", "against")]
    return [judge_slower(recording, scheme), *_judge_exact_figures("against", scheme, here, there)]


def judge_slower(recording: Recording, scheme: str) -> Verdict:
    """Judge the seconds of a scheme here over its seconds there."""
    here, there, plan = recording.here, recording.there, recording.plan
    assert there  # noqa: S101 - the caller has checked it
    slower = {model: recording.slower(model) for model in (scheme, FLOAT32)}
    times = [
        (model, here.us_per_token(model, plan), there.us_per_token(model, plan), statistics.median(sample.blocks))
        for model, sample in slower.items()
    ]
    limit = Limit(at_most=1 + plan.tolerance)
    return judge_figure("against", scheme, "slower", slower[scheme], limit, _describe_times(times, "there"))


def judge_baseline(run: Run, baseline: Run, scheme: str) -> list[Verdict]:
    """Judge a scheme against a saved run: its speedup, its bytes and its predictions."""
    now, then = run.recording.here, baseline.recording.here
    if scheme not in then.seconds:
        verdict = not_measured(scheme, "kept speedup", "the baseline has no such scheme", "baseline")
        return [replace(verdict, outcome=Outcome.UNJUDGED)]
    return [judge_kept_speedup(run, baseline, scheme), *_judge_exact_figures("baseline", scheme, now, then)]


def judge_kept_speedup(run: Run, baseline: Run, scheme: str) -> Verdict:
    """Judge the share of a baseline's speedup that is left."""
    # The tolerance was chosen from pairs of whole sessions, so it covers the noise of the baseline's median too.
    now, then = run.recording.speedup(scheme), baseline.speedup(scheme)
    kept = replace(now, blocks=[ratio / then.median for ratio in now.blocks])
    pairs = [(model, run.us_per_token(model), baseline.us_per_token(model)) for model in (scheme, FLOAT32)]
    details = _describe_times([(*pair, pair[1] / pair[2]) for pair in pairs], "then")
    verdict = judge_figure("baseline", scheme, "kept speedup", kept, Limit(at_least=1 - BASELINE_TOLERANCE), details)
    return replace(verdict, limit=f"{verdict.limit} of {then.median:.3g}")


def _judge_exact_figures(
    question: str, scheme: str, now: EnvironmentRecording, then: EnvironmentRecording
) -> list[Verdict]:
    """Judge what is not noisy: the bytes, the losses of the same windows, and the divergence from float32."""
    after, before = now.fidelity[scheme], then.fidelity[scheme]
    if after.tokens != before.tokens:
        return [not_measured(scheme, "loss moved", "the losses have different windows", question)]
    window = median_interval([a - b for a, b in zip(after.losses, before.losses, strict=True)])
    max_increase = MAX_LOSS_INCREASE if before.kl is not None else MAX_LOSS_INCREASE * abs(before.loss)
    size, size_before = now.sizes[scheme].total, then.sizes[scheme].total
    max_size = size_before + (FILE_FORMAT_BYTES if now.machine.torch != then.machine.torch else 0)
    window_text = f"by [{window.lower:+.2g}, {window.upper:+.2g}] in the median window"
    figures: list[tuple[str, float, float, str]] = [
        ("bytes", size, max_size, f"{size - size_before:+,} bytes" if size != size_before else ""),
        ("loss moved", after.loss - before.loss, max_increase, window_text),
    ]
    if after.kl is not None and before.kl is not None:
        figures.append(("kl", after.kl, MAX_KL_RATIO * before.kl + 1e-6, ""))
    return [
        judge_figure(question, scheme, metric, exact(figure), Limit(at_most=at_most), details)
        for metric, figure, at_most, details in figures
    ]


def _describe_times(times: list[tuple[str, float, float, float]], other: str) -> str:
    """Return the times of both models on both sides, and which model got slower or faster.

    Args:
        times: the name of a model, its microseconds per token here and on the other side, and the ratio of the two.
        other: ``there`` or ``then``.
    """
    sides = [f"{model} {now:.1f} us/token, {other} {before:.1f}" for model, now, before, _ in times]
    changed = [(model, change) for model, _, _, change in times if abs(change - 1) > MIN_CHANGE]
    moved = [f"{model} got {'slower' if change > 1 else 'faster'}" for model, change in changed]
    return f"{'; '.join(sides)}: {' and '.join(moved) or 'no change'}"

"""A plot of one session: :func:`plot_run`."""

from collections.abc import Sequence
from pathlib import Path

from lstmq.escaping import escape_math
from lstmq.figures import save_figure
from lstmq.gate import Outcome, Run, Verdict, ratios
from lstmq.quantization import FLOAT32

COLORS = {Outcome.PASS: "tab:green", Outcome.FAIL: "tab:red", Outcome.UNJUDGED: "tab:gray"}


def plot_run(run: Run, verdicts: Sequence[Verdict], path: Path) -> None:
    """Plot the ratio of each slice in the order of reading, and the interval and limit of every scheme.

    Args:
        run: a run.
        verdicts: the verdicts on it.
        path: a file that :func:`lstmq.figures.check_figure_path` accepts.
    """
    from matplotlib.figure import Figure

    seconds = run.recording.here.seconds
    schemes = [scheme for scheme in run.cases if scheme in seconds]
    figure = Figure(figsize=(10, 2.4 + 0.9 * max(2, len(schemes))), layout="constrained")
    slices_axes, interval_axes = figure.subplots(1, 2, width_ratios=[3, 2])
    for scheme in schemes:
        processes = ratios(seconds[FLOAT32], seconds[scheme])
        slices = enumerate((ratio for process in processes for ratio in process), 1)
        places, measured = zip(*((place, ratio) for place, ratio in slices if ratio is not None), strict=True)
        slices_axes.plot(places, measured, ".", markersize=4, label=escape_math(scheme))
    for number in range(1, len(processes) if schemes else 0):
        slices_axes.axvline(number * len(processes[0]) + 0.5, color="0.85", linewidth=0.7, zorder=0)
    slices_axes.set(xlabel="slice; a line marks a fresh process", ylabel=f"{FLOAT32}'s seconds over the scheme's")
    slices_axes.set_ylim(bottom=0)
    if schemes:
        slices_axes.legend(loc="best")
    outcomes = {
        verdict.case: verdict.outcome
        for verdict in verdicts
        if verdict.question == "limit" and verdict.metric == "speedup"
    }
    for place, scheme in enumerate(schemes):
        speedup = run.speedup(scheme)
        ends = [[speedup.median - speedup.lower], [speedup.upper - speedup.median]]
        color = COLORS.get(outcomes.get(scheme, Outcome.UNJUDGED), "tab:orange")
        interval_axes.errorbar([speedup.median], [place], xerr=ends, fmt="o", color=color, capsize=4)
        if (limit := run.least_speedup(scheme)) is not None:
            interval_axes.plot([limit, limit], [place - 0.3, place + 0.3], color="black", linewidth=2)
    interval_axes.set_yticks(range(len(schemes)), map(escape_math, schemes))
    interval_axes.set(xlabel="speedup, all blocks, 99 % confidence interval; black: limit")
    interval_axes.set(xlim=(0, None), ylim=(max(1, len(schemes)) - 0.5, -0.5))
    save_figure(figure, path)

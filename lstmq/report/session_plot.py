"""A session as a picture: :func:`plot_run`."""

from collections.abc import Sequence
from pathlib import Path

from lstmq.figures import save_figure
from lstmq.gate import HERE, Outcome, Run, Verdict
from lstmq.quantization import FLOAT32

COLORS = {Outcome.PASS: "tab:green", Outcome.FAIL: "tab:red", Outcome.UNJUDGED: "tab:gray"}


def plot_run(run: Run, verdicts: Sequence[Verdict], path: Path) -> None:
    """Draw each slice's ratio in the order of reading, and every scheme's interval against its floor.

    Args:
        run: with at least one scheme measured.
        verdicts: on it.
        path: what :func:`lstmq.curves.check_plot` passes.
    """
    from matplotlib.figure import Figure

    schemes = [scheme for scheme in run.cases if scheme in run.recording.seconds[HERE]]
    figure = Figure(figsize=(10, 2.4 + 0.9 * max(2, len(schemes))), layout="constrained")
    by_slice, intervals = figure.subplots(1, 2, width_ratios=[3, 2])
    for scheme in schemes:
        workers = run.ratios((HERE, FLOAT32), (HERE, scheme))
        ratios = [ratio for worker in workers for ratio in worker]
        by_slice.plot(range(1, len(ratios) + 1), ratios, ".", markersize=4, label=scheme)
    for number in range(1, len(workers) if schemes else 0):
        by_slice.axvline(number * len(workers[0]) + 0.5, color="0.85", linewidth=0.7, zorder=0)
    by_slice.set(xlabel="slice; a line where a fresh process begins", ylabel=f"{FLOAT32}'s seconds over the scheme's")
    if schemes:
        by_slice.legend(loc="best")
    by_slice.set_ylim(bottom=0)
    outcomes = {each.case: each.outcome for each in verdicts if each.question == "floor" and each.metric == "speedup"}
    for place, scheme in enumerate(schemes):
        speedup = run.speedup(scheme)
        ends = [[speedup.median - speedup.lower], [speedup.upper - speedup.median]]
        colour = COLORS.get(outcomes.get(scheme, Outcome.UNJUDGED), "tab:orange")
        intervals.errorbar([speedup.median], [place], xerr=ends, fmt="o", color=colour, capsize=4)
        if (floor := run.least_speedup(scheme)) is not None:
            intervals.plot([floor, floor], [place - 0.3, place + 0.3], color="black", linewidth=2)
    intervals.set_yticks(range(len(schemes)), schemes)
    intervals.set(xlabel="speedup, 99 % interval; black: its floor")
    intervals.set(xlim=(0, None), ylim=(max(1, len(schemes)) - 0.5, -0.5))
    save_figure(figure, path)

"""``lstmq gate``: judge a saved run again, with the verdicts and exit codes of ``pytest benchmarks``."""

from dataclasses import replace
from pathlib import Path

import click

from lstmq.cli.options import FILE
from lstmq.cli.output import echo_beside
from lstmq.figures import check_figure_path
from lstmq.files import atomic_write, check_folder


@click.command("gate")
@click.argument("run_file", metavar="RUN", type=FILE)
@click.argument("baseline_file", metavar="[BASELINE]", type=FILE, required=False)
@click.option("--limits", "limits_file", type=FILE, help="Limits to judge by. [those saved with the run]")
@click.option("--require-baseline", is_flag=True, help="Fail if the runs cannot be compared.")
@click.option("--markdown", type=FILE, help="Also write the verdicts to this file.")
@click.option("--plot", type=FILE, help="Plot ratios and intervals to this file: .png or .svg.")
def gate_command(
    *,
    run_file: Path,
    baseline_file: Path | None,
    limits_file: Path | None,
    require_baseline: bool,
    markdown: Path | None,
    plot: Path | None,
) -> int:
    """Judge a saved RUN, and whether int8 kept its speedup since BASELINE.

    Both are JSON files that `pytest benchmarks --benchmark-autosave` or `--benchmark-json` wrote. Exit codes: 0 pass,
    1 regression, 10 inconclusive, 11 machine too noisy, 12 something was not measured.
    """
    from lstmq import report
    from lstmq.gate import judge_run, load_limits, read_run, select_baseline, worst

    line_out = echo_beside(markdown, plot)
    if plot:
        check_figure_path(plot)
    if markdown:
        check_folder(markdown)
    if require_baseline and not baseline_file:
        raise ValueError("--require-baseline needs a BASELINE")
    run, baseline = read_run(run_file), None
    if limits_file:
        run = replace(run, limits=load_limits(limits_file), exempt=())
    notes = [f"{run_file}: the run of {run.date}", *report.describe_environments(run.recording)]
    if baseline_file:
        saved, schemes = [read_run(baseline_file)], run.recording.plan.schemes
        baseline, which = select_baseline(saved, run.conditions, schemes, named=True, required=require_baseline)
        notes.append(f"{baseline_file}: {which}")
    verdicts = judge_run(run, baseline)
    for line in (*notes, "", *report.verdict_lines(verdicts), "", report.conclusion(verdicts)):
        line_out(line)
    if markdown:
        with atomic_write(markdown) as path:
            path.write_text("\n".join(report.verdict_markdown(verdicts, notes)) + "\n", encoding="utf-8")
    if plot:
        report.plot_run(run, verdicts, plot)
    return worst(verdicts).exit_code

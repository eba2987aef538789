"""``lstmq gate``: judge saved runs again, with the same code and exit codes as ``pytest benchmarks``."""

from dataclasses import replace
from pathlib import Path

import click

from lstmq.cli.options import FILE
from lstmq.figures import check_figure_path
from lstmq.files import atomic_write, check_folder
from lstmq.gate import baseline, judge, load_limits, run_file, worst
from lstmq.report import plot_run, tables


@click.command("gate")
@click.argument("run", type=FILE)
@click.argument("baseline", type=FILE, required=False)
@click.option("--floors", type=FILE, help="Limits to judge by. [those of the run]")
@click.option(
    "--gate-baseline",
    type=click.Choice(["auto", "require"]),
    default="auto",
    help="What if the runs cannot be compared: judge by floors alone, or refuse.",
)
@click.option("--markdown", type=FILE, help="Write the verdicts to this file, too.")
@click.option("--gate-plot", "plot", type=FILE, help="Draw ratios and intervals: .png or .svg.")
def gate_command(
    *,
    run: Path,
    baseline: Path | None,
    floors: Path | None,
    gate_baseline: str,
    markdown: Path | None,
    plot: Path | None,
) -> int:
    """Judge a saved RUN, and whether int8 kept its speedup since BASELINE.

    Both are JSON files of `pytest benchmarks --benchmark-autosave` or `--benchmark-json`. The exit code is 0 for a
    pass, 1 for a regression, 10 if it is inconclusive, 11 if the machine was too noisy, 12 if something was not
    measured.
    """
    if plot:
        check_figure_path(plot)
    if markdown:
        check_folder(markdown)
    if gate_baseline == "require" and not baseline:
        raise ValueError("--gate-baseline=require needs a BASELINE")
    now, then = run_file.read_run(run), None
    if floors:
        now = replace(now, floors=load_limits(floors), exempt=())
    notes = [f"{run}: the run of {now.date}", *tables.describe_environments(now.recording)]
    if baseline:
        found, required = [run_file.read_run(baseline)], gate_baseline == "require"
        schemes = now.recording.plan["schemes"]
        then, which = baseline.select_baseline(found, now.conditions, schemes, named=True, required=required)
        notes.append(f"{baseline}: {which}")
    verdicts = judge.judge(now, then)
    for line in (*notes, "", *tables.verdict_lines(verdicts), "", tables.conclusion(verdicts)):
        click.echo(line)
    if markdown:
        with atomic_write(markdown) as path:
            path.write_text("\n".join(tables.verdict_markdown(verdicts, notes)) + "\n", encoding="utf-8")
    if plot:
        plot_run(now, verdicts, plot)
    return worst(verdicts).exit_code

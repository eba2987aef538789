"""``lstmq report``: saved runs side by side, and over time."""

import gc
from pathlib import Path

import click

from lstmq.cli.options import FILE, FOLDER
from lstmq.cli.output import echo, echo_beside
from lstmq.figures import check_figure_path, check_matplotlib
from lstmq.files import atomic_write, check_folder
from lstmq.progress import progress


@click.command("report")
@click.argument("paths", metavar="RUN.json|FOLDER...", type=FOLDER, nargs=-1, required=True)
@click.option("--markdown", type=FILE, help="Also write the tables to this file.")
@click.option("--html", type=FILE, help="Write one HTML page with tables and plots.")
@click.option("--plot", type=FILE, help="Plot speedups, times and sizes by torch version: .png or .svg.")
@click.option("--history", type=FILE, help="Plot speedups over time, with change points: .png or .svg.")
@click.option("--scheme", default="int8", help="Scheme of the history.")
@click.option("--title", default="int8 across torch versions", help="Title of the page.")
def report_command(
    *,
    paths: tuple[Path, ...],
    markdown: Path | None,
    html: Path | None,
    plot: Path | None,
    history: Path | None,
    scheme: str,
    title: str,
) -> None:
    """Show saved runs of `pytest benchmarks` side by side: one row for each torch version, and what changed.

    Folders are searched for .json files. If several runs have the same version, the newest is shown. Runs on other
    processors, workloads or windows are in separate tables.
    """
    from lstmq import report

    line_out = echo_beside(markdown, html, plot, history)
    if plot:
        check_figure_path(plot)
    if history:
        report.check_history_path(history)
    if html:
        check_matplotlib()
    for path in filter(None, (markdown, html)):
        check_folder(path)
    files = report.find_run_files(paths)
    skipped: list[Path] = []
    gc.freeze()  # otherwise the collector scans everything that torch imported, again and again, for thousands of files
    with progress("reading", len(files)) as advance:

        def on_file(path: Path, is_run: bool) -> None:
            advance(1)
            skipped.extend([] if is_run else [path])

        summaries = list(report.read_summaries(files, named=paths, on_file=on_file))
    if not summaries:
        raise ValueError(f"expected runs of lstmq's benchmarks, found none among {len(files):,} files")
    if skipped:
        more = ", ..." if len(skipped) > 1 else ""
        echo(f"lstmq: skipped {len(skipped):,} files without a run of this version: {skipped[0]}{more}", err=True)
    of_scheme = [summary for summary in summaries if summary.scheme == scheme and summary.is_valid]
    if history and not of_scheme:
        found = ", ".join(sorted({summary.scheme for summary in summaries if summary.is_valid})) or "none"
        raise ValueError(f"expected runs of {scheme} that are not too noisy to plot, found: {found}")
    groups = report.group_summaries(summaries)
    for line in report.report_text(groups):
        line_out(line)
    if markdown:
        with atomic_write(markdown) as path:
            path.write_text("\n".join(report.report_markdown(groups)) + "\n", encoding="utf-8")
    if html:
        with atomic_write(html) as path:
            path.write_text(report.report_html(groups, title), encoding="utf-8")
    if plot:
        report.plot_summaries(groups, plot)
    if history:
        report.plot_history(of_scheme, history)

"""``lstmq report``: saved runs side by side, and over time."""

import gc
from pathlib import Path

import click

from lstmq.cli.options import FILE, FOLDER
from lstmq.progress import progress
from lstmq.figures import check_figure_path, check_matplotlib
from lstmq.files import atomic_write, check_folder
from lstmq.report import (
    check_history,
    find_run_files,
    group_summaries,
    page,
    plot_history,
    plot_summaries,
    read_summaries,
)


@click.command("report")
@click.argument("paths", metavar="RUN.json|FOLDER...", type=FOLDER, nargs=-1, required=True)
@click.option("--markdown", type=FILE, help="Write the tables to this file, too.")
@click.option("--html", type=FILE, help="Write one page that needs nothing else.")
@click.option("--plot", type=FILE, help="Draw speedups, times and sizes by version: .png or .svg.")
@click.option("--history", type=FILE, help="Draw speedups over time and where they changed: .png or .svg.")
@click.option("--scheme", default="int8", help="Of the history.")
@click.option("--title", default="int8 across torch versions", help="Of the page.")
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
    """Show saved runs of `pytest benchmarks` side by side: a row an environment, and what changed.

    Folders are searched for .json files. Of several runs of one environment the newest is shown. Runs of other
    processors, workloads or windows are in tables of their own.
    """
    if plot:
        check_figure_path(plot)
    if history:
        check_history(history)
    if html:
        check_matplotlib()
    for written in filter(None, (markdown, html)):
        check_folder(written)
    wanted, passed_over = find_run_files(paths), []
    gc.freeze()  # else all that torch imported is looked through again and again while thousands of files are read
    with progress("reading", len(wanted)) as advance:

        def on_file(path: Path, read: bool) -> None:
            advance(1)
            passed_over.extend([] if read else [path])

        stood = list(read_summaries(wanted, named=paths, on_file=on_file))
    if stood and passed_over:
        told = f"passed over {len(passed_over):,} files that hold no run of this version: {passed_over[0]}"
        click.echo(f"lstmq: {told}{', ...' * (len(passed_over) > 1)}", err=True)
    if not stood:
        raise ValueError(f"expected runs of lstmq's benchmarks, found none among {len(wanted):,} files")
    of_scheme = [each for each in stood if each.scheme == scheme and each.measured]
    if history and not of_scheme:
        raise ValueError(f"expected runs of {scheme} to draw, found those of {', '.join({e.scheme for e in stood})}")
    groups = group_summaries(stood)
    click.echo("\n".join(page.report_text(groups)))
    if markdown:
        with atomic_write(markdown) as path:
            path.write_text("\n".join(page.report_markdown(groups)) + "\n", encoding="utf-8")
    if html:
        with atomic_write(html) as path:
            path.write_text(page.report_html(groups, title), encoding="utf-8")
    if plot:
        plot_summaries(groups, plot)
    if history:
        plot_history(of_scheme, history)

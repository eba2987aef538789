"""``lstmq fetch``: the published corpus and checkpoint."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pooch
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lstmq.assets import ASSETS, DATA, PinnedCheckpoint
from lstmq.cli.common import FILE
from lstmq.download import fetch


@click.command("fetch")
@click.argument("what", type=click.Choice([*ASSETS, "all"]), default="all")
@click.option("--dest", type=FILE, default=DATA, help="Folder to put it in.")
@click.option("--from", "source", metavar="URL|FOLDER", help="Mirror or folder that holds the published files.")
def fetch_command(*, what: str, dest: Path, source: str | None) -> None:
    """Fetch WikiText-2 and the tutorial's checkpoint, verify them, and put them where --corpus wikitext-2 finds them.

    What is there and good is not fetched again, so that a fetch that failed is resumed by another.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # it tells of every step; we tell of the outcome
    for asset in ASSETS.values() if what == "all" else [ASSETS[what]]:
        with download_bar(asset.name) as bar:
            origin = fetch(asset, dest, source, bar)
        how = f"fetched from {origin}, verified" if origin else "already there, verified"
        click.echo(f"{asset.name}: {asset.path(dest)} ({how})")
        if isinstance(asset, PinnedCheckpoint):
            click.echo(f"SHA-256 {asset.pin(dest)}, pinned in {asset.lock(dest)}")


class DownloadBar:
    """One task of a rich bar, driven as pooch drives tqdm's."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    @property
    def total(self) -> int:
        """In bytes; 0 while it is not known."""
        return int(self.progress.tasks[self.task].total or 0)

    @total.setter
    def total(self, total: int) -> None:
        self.progress.reset(self.task, total=total or None)

    def update(self, n: int, /) -> None:
        """Advance by ``n`` bytes."""
        self.progress.advance(self.task, n)

    def reset(self) -> None:
        """Go back to 0."""
        self.progress.reset(self.task)

    def close(self) -> None:
        """Do nothing: the block's end closes it."""


@contextmanager
def download_bar(task: str) -> Iterator[DownloadBar]:
    """Show a bar with bytes and the time left on standard error, if a person is there."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield DownloadBar(progress, progress.add_task(task, total=None))

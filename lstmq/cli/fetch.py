"""``lstmq fetch``: the published corpus and checkpoint."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lstmq.cli.options import FOLDER
from lstmq.progress import progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ASSETS = ("wikitext-2", "checkpoint")


@click.command("fetch")
@click.argument("what", type=click.Choice([*ASSETS, "all"]), default="all")
@click.option("--dest", type=FOLDER, default=Path("data"), help="Folder to put it in.")
@click.option("--from", "source", metavar="URL|FOLDER", help="Mirror or folder that holds the published files.")
def fetch_command(*, what: str, dest: Path, source: str | None) -> None:
    """Fetch WikiText-2 and a trained model.

    They are verified, and put where --corpus wikitext-2 finds them. What is there and good is not fetched again, so
    that a fetch that failed is resumed by another.
    """
    import pooch
    from rich.progress import DownloadColumn

    from lstmq.workload import ASSETS, PinnedCheckpoint, fetch

    pooch.get_logger().setLevel(logging.WARNING)  # it tells of every step; we tell of the outcome
    for asset in ASSETS.values() if what == "all" else [ASSETS[what]]:
        with progress_bar(DownloadColumn()) as tasks:
            origin = fetch(asset, dest, source, DownloadBar(tasks, tasks.add_task(asset.name, total=None)))
        how = f"fetched from {origin}, verified" if origin else "already there, verified"
        click.echo(f"{asset.name}: {asset.path(dest)} ({how})")
        if isinstance(asset, PinnedCheckpoint):
            click.echo(f"SHA-256 {asset.pin(dest)}, pinned in {asset.lock(dest)}")


class DownloadBar:
    """One task of a rich bar, driven as pooch drives tqdm's."""

    def __init__(self, progress: "Progress", task: "TaskID") -> None:
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

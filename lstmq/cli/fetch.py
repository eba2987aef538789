"""``lstmq fetch``: downloads the published corpus and checkpoint."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lstmq.cli.options import FOLDER
from lstmq.progress import progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

NAMES = ("wikitext-2", "checkpoint")  # the keys of lstmq.workload.ASSETS, which imports torch


@click.command("fetch")
@click.argument("what", type=click.Choice([*NAMES, "all"]), default="all")
@click.option("--dest", type=FOLDER, default=Path("data"), help="Folder to download to.")
@click.option("--from", "source", metavar="URL|FOLDER", help="Mirror or local folder that holds the published files.")
def fetch_command(*, what: str, dest: Path, source: str | None) -> None:
    """Download WikiText-2 and the checkpoint of PyTorch's quantization tutorial.

    Verifies the files. --corpus wikitext-2 then finds them in ./data. Skips files that exist and are undamaged, so run
    it again after a failure.
    """
    import pooch
    from rich.progress import DownloadColumn

    from lstmq.workload import ASSETS, PinnedCheckpoint, fetch

    pooch.get_logger().setLevel(logging.WARNING)  # it logs every step
    for name in NAMES if what == "all" else [what]:
        asset = ASSETS[name]
        with progress_bar(DownloadColumn()) as progress:
            origin = fetch(asset, dest, source, DownloadBar(progress, progress.add_task(name, total=None)))
        how = f"fetched from {origin}, verified" if origin else "already there, verified"
        click.echo(f"{name}: {asset.path(dest)} ({how})")
        if isinstance(asset, PinnedCheckpoint):
            click.echo(f"SHA-256 {asset.pin(dest)}, pinned in {asset.lock(dest)}")


class DownloadBar:
    """One task of a rich progress bar, with the methods that pooch calls: a ``lstmq.workload.download.Bar``."""

    def __init__(self, progress: "Progress", task: "TaskID") -> None:
        self.progress, self.task = progress, task

    @property
    def total(self) -> int:
        """Size of the download in bytes; 0 while it is unknown."""
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
        """Do nothing. The progress display closes itself."""

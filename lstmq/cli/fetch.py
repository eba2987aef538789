"""``lstmq fetch``: downloads the published corpus and checkpoint."""

import logging
from functools import partial
from pathlib import Path

import click

from lstmq.cli.options import FOLDER
from lstmq.cli.output import echo
from lstmq.progress import progress_bar

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
        with progress_bar(DownloadColumn()) as bar:
            update = partial(bar.update, bar.add_task(name, total=None))
            origin = fetch(asset, dest, source, lambda size, total: update(completed=size, total=total or None))  # noqa: B023
        how = f"fetched from {origin}, verified" if origin else "already there, verified"
        echo(f"{name}: {asset.path(dest)} ({how})")
        if isinstance(asset, PinnedCheckpoint):
            echo(f"SHA-256 {asset.pin(dest)}, pinned in {asset.lock(dest)}")

"""A progress bar with the time left, on standard error: :func:`progress`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Advance by ``steps``, and show ``note`` beside the task."""


@contextmanager
def progress(task: str, total: int, shown: bool = True) -> Iterator[Advance]:
    """Show a bar for ``total`` steps while the block runs, and yield the function that advances it."""
    from rich.progress import MofNCompleteColumn

    with progress_bar(MofNCompleteColumn(), shown=shown) as tasks:
        task_id = tasks.add_task(task, total=total)

        def advance(steps: int, note: str = "") -> None:
            tasks.update(task_id, advance=steps, description=f"{task} {note}")

        yield advance


def progress_bar(count: "ProgressColumn", shown: bool = True) -> "Progress":
    """Return a bar that shows ``count`` and the time left. It stays hidden if standard error is not a terminal."""
    # Imported here, because importing rich takes longer than printing the help of the command.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    hidden = not (shown and console.is_terminal)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), count, *times, console=console, transient=True, disable=hidden
    )

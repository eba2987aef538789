"""Shows progress on standard error: :func:`progress`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn


class Advance(Protocol):
    """Advances a progress bar."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Advance by ``steps``, and show ``note`` after the name of the task."""


@contextmanager
def progress(task: str, total: int, shown: bool = True) -> Iterator[Advance]:
    """Show a progress bar while the block runs, and yield the function that advances it.

    Args:
        task: name to show.
        total: number of steps.
        shown: ``False`` hides the bar.
    """
    from rich.progress import MofNCompleteColumn

    with progress_bar(MofNCompleteColumn(), shown=shown) as bar:
        task_id = bar.add_task(task, total=total)

        def advance(steps: int, note: str = "") -> None:
            bar.update(task_id, advance=steps, description=f"{task} {note}")

        yield advance


def progress_bar(count: "ProgressColumn", shown: bool = True) -> "Progress":
    """Return a bar that shows ``count``, the time used and the time left.

    The bar is hidden if standard error is not a terminal, and disappears when it is complete.
    """
    # Imported here, because importing rich takes longer than printing the help of the command.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), count, *times)
    return Progress(*columns, console=console, transient=True, disable=not (shown and console.is_terminal))

"""What the command prints: lines, errors, and the notes that reading an input gives.

Standard output may also be where a file goes, as ``--json -`` says. Then nothing else goes there.
"""

import io
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from lstmq.errors import InputNote, InputWarning
from lstmq.escaping import show
from lstmq.files import is_stdout


def echo(line: str, err: bool = False) -> None:
    """Print a line, with control characters as escapes."""
    click.echo(show(line), err=err)


def echo_beside(*files: Path | None) -> Callable[[str], None]:
    """Return the function that prints lines: on standard error if one of the files is standard output.

    Raises:
        click.UsageError: if more than one is.
    """
    count = sum(is_stdout(file) for file in files if file)
    if count > 1:
        raise click.UsageError("only one file can be -, which is standard output")
    return partial(echo, err=bool(count))


@contextmanager
def safe_output() -> Iterator[None]:
    """Print notes as lines, and print characters that the terminal cannot encode as escapes, while the block runs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputNote)
        show_warning = warnings.showwarning

        def print_note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, InputNote):
                kind = "warning" if issubclass(category, InputWarning) else "note"
                echo(f"lstmq: {kind}: {message}", err=True)
            else:
                show_warning(message, category, *where, **more)

        warnings.showwarning = print_note
        yield

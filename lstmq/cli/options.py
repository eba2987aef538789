"""What the subcommands share: options, and a progress bar."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lstmq.model import LanguageModel
from lstmq.quantization import FLOAT32, SCHEMES, check_engine, quantize

Command = TypeVar("Command", bound=Callable[..., None])
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(path_type=Path)
THREADS = click.IntRange(1, 1024)
SEED = click.IntRange(0, 2**63 - 1)


class Files(TypedDict):
    """The options that name what is loaded, as :func:`lstmq.workload.load_subject` takes them."""

    corpus: Path | None
    checkpoint: Path | None
    vocabulary: Path | None


def model_options(command: Command) -> Command:
    """Add the options that choose a model, its text, and how torch computes."""
    for option in (
        click.option(
            "--engine",
            callback=_known_engine,
            metavar="E",
            help="Torch's int8 backend: x86, fbgemm, onednn, qnnpack. [torch's own]",
        ),
        click.option("--threads", type=THREADS, default=1, help="Threads that torch computes on."),
        click.option("--vocabulary", type=FOLDER, help="Corpus folder of the checkpoint's words, if not --corpus."),
        click.option(
            "--checkpoint", type=FILE, help="Trained model: .pth, .safetensors, .onnx. [the embedded sample's]"
        ),
        click.option("--corpus", type=FOLDER, help="Folder of text, or wikitext-2 once fetched. [the embedded sample]"),
    ):
        command = option(command)
    return command


def _known_engine(_context: click.Context, _option: click.Parameter, engine: str | None) -> str | None:
    check_engine(engine)  # also for float32, which uses none: what the output says of it must be true
    return engine


def stream_options(command: Command) -> Command:
    """Add the options that choose what is read of the text, and how."""
    for option in (
        click.option("--bptt", type=click.IntRange(min=1), default=25, help="Longest window, in tokens."),
        click.option("--tokens", type=int, help="Read only the first so many tokens of the test split. [all]"),
    ):
        command = option(command)
    return command


def scheme_option(command: Command) -> Command:
    """Add the option that quantizes the model first."""
    option = click.option("--scheme", type=click.Choice([FLOAT32, *SCHEMES]), default=FLOAT32, help="How to store it.")
    return option(command)


def in_scheme(model: LanguageModel, scheme: str, engine: str | None) -> LanguageModel:
    """Return the model itself for float32, else quantized."""
    return model if scheme == FLOAT32 else quantize(model, scheme, engine)


class Advance(Protocol):
    """What moves a progress bar on."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Move on by ``steps``, and show ``note`` beside the task."""


@contextmanager
def progress(task: str, total: int, shown: bool = True) -> Iterator[Advance]:
    """Show a bar with the time left, and give what advances it."""
    with bar(MofNCompleteColumn(), shown=shown) as tasks:
        task_id = tasks.add_task(task, total=total)

        def advance(steps: int, note: str = "") -> None:
            tasks.update(task_id, advance=steps, description=f"{task} {note}")

        yield advance


def bar(count: ProgressColumn, shown: bool = True) -> Progress:
    """Return a bar with ``count`` and the time left, on standard error; it shows nothing if no person is there."""
    console = Console(stderr=True)
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    hidden = not (shown and console.is_terminal)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), count, *times, console=console, transient=True, disable=hidden
    )

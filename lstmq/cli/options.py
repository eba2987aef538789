"""Options that several subcommands have. Like all modules of ``cli``, this one does not import torch at the top."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import click

from lstmq.quantization import FLOAT32, SCHEMES

if TYPE_CHECKING:
    from lstmq.model import LanguageModel

Command = TypeVar("Command", bound=Callable[..., None])
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**63 - 1)


class Files(TypedDict):
    """The options that name files. They are arguments of :func:`~lstmq.workload.load_text_subject`."""

    corpus: Path | None
    checkpoint: Path | None
    vocabulary: Path | None


def model_options(command: Command) -> Command:
    """Add the options that choose a model, its text, and how torch computes."""
    for option in (
        click.option(
            "--engine",
            callback=_check_engine,
            metavar="E",
            help="Torch's int8 backend: x86, fbgemm, onednn or qnnpack. [torch's default]",
        ),
        threads_option(default=1, help="Number of threads."),
        click.option("--vocabulary", type=FOLDER, help="Corpus that the checkpoint was trained on. [--corpus]"),
        click.option("--checkpoint", type=FILE, help="Trained model: .pth, .safetensors or .onnx. [bundled sample]"),
        click.option("--corpus", type=FOLDER, help="Folder of text, or wikitext-2 after a fetch. [bundled sample]"),
    ):
        command = option(command)
    return command


def _check_engine(context: click.Context, _option: click.Parameter, engine: str | None) -> str | None:
    """Check the engine even if the model is float32 and does not use it, because the output names the engine."""
    if engine is not None and not context.resilient_parsing:  # as in threads_option
        from lstmq.quantization import check_engine

        check_engine(engine)
    return engine


def threads_option(default: int | None, help: str) -> Callable[[Command], Command]:
    """Return the option that sets the number of threads that torch uses."""

    def set_threads(context: click.Context, _option: click.Parameter, threads: int | None) -> None:
        if threads and not context.resilient_parsing:  # completing a command line must not import torch
            import torch

            torch.set_num_threads(threads)

    return click.option(
        "--threads", type=click.IntRange(1, 1024), default=default, callback=set_threads, expose_value=False, help=help
    )


def stream_options(command: Command) -> Command:
    """Add the options that choose how much of the test split is read, and in which windows."""
    for option in (
        click.option("--bptt", type=click.IntRange(min=1), default=25, help="Longest window, in tokens."),
        click.option("--tokens", type=int, metavar="N", help="Read only the first N tokens of the test split."),
    ):
        command = option(command)
    return command


def scheme_option(command: Command) -> Command:
    """Add the option that quantizes the model first."""
    names = click.Choice([FLOAT32, *SCHEMES])
    return click.option("--scheme", type=names, default=FLOAT32, help="Quantize first.")(command)


def quantize_for(model: "LanguageModel", scheme: str, engine: str | None) -> "LanguageModel":
    """Return a quantized copy of the model, or the model itself if the scheme is ``float32``."""
    from lstmq.quantization import quantize

    return model if scheme == FLOAT32 else quantize(model, scheme, engine)

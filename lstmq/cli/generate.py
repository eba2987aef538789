"""``lstmq generate``: text from one model."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO, Unpack

import click

from lstmq.cli.options import FILE, SEED, Files, model_options, quantize_for, scheme_option
from lstmq.escaping import show
from lstmq.files import atomic_write, is_stdout
from lstmq.progress import progress

WORDS_PER_LINE = 20


@click.command("generate")
@model_options
@scheme_option
@click.option("--words", type=int, default=1000, help="Number of words.")
@click.option("--temperature", type=float, default=1.0, help="Higher is more random; 0 takes the likeliest word.")
@click.option("--seed", type=SEED, help="The same seed gives the same text. [random]")
@click.option("--out", type=FILE, help="Write the text to this file. [standard output]")
def generate_command(
    *,
    engine: str | None,
    scheme: str,
    words: int,
    temperature: float,
    seed: int | None,
    out: Path | None,
    **files: Unpack[Files],
) -> None:
    """Generate text from one model, 20 words per line."""
    import torch

    from lstmq.model import generate
    from lstmq.workload import load_text_subject

    subject = load_text_subject(**files)
    model = quantize_for(subject.model, scheme, engine)
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    text = generate(model, subject.dictionary, words, temperature, generator)
    out = None if is_stdout(out) else out
    with ExitStack() as stack:
        file: TextIO = sys.stdout
        if out:
            file = stack.enter_context(stack.enter_context(atomic_write(out)).open("w", encoding="utf-8"))
        # On a terminal, the text itself shows the progress, and a bar would overwrite it.
        advance = stack.enter_context(progress("generating", words, shown=bool(out) or not sys.stdout.isatty()))
        for count, word in enumerate(text, start=1):
            file.write((word if out else show(word)) + (" " if count % WORDS_PER_LINE and count < words else "\n"))
            advance(1)

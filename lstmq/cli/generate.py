"""``lstmq generate``: text from one model."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO, Unpack

import click
import torch

from lstmq.cli.options import FILE, SEED, Files, in_scheme, model_options, progress, scheme_option
from lstmq.files import atomic_write
from lstmq.model import generate
from lstmq.workload import load_text_subject

WORDS_PER_LINE = 20


@click.command("generate")
@model_options
@scheme_option
@click.option("--words", type=int, default=1000, help="How many.")
@click.option("--temperature", type=float, default=1.0, help="Below 1 safer, above 1 wilder; 0: always the likeliest.")
@click.option("--seed", type=SEED, help="Equal seeds give equal text. [a new one every time]")
@click.option("--out", type=FILE, help="Write the text to this file. [standard output]")
def generate_command(
    *,
    threads: int,
    engine: str | None,
    scheme: str,
    words: int,
    temperature: float,
    seed: int | None,
    out: Path | None,
    **files: Unpack[Files],
) -> None:
    """Write text that the model finds likely, 20 words a line."""
    torch.set_num_threads(threads)
    subject = load_text_subject(**files)
    model = in_scheme(subject.model, scheme, engine)
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    text = generate(model, subject.dictionary, words, temperature, generator)
    with ExitStack() as stack:
        file: TextIO = sys.stdout
        if out:
            file = stack.enter_context(stack.enter_context(atomic_write(out)).open("w", encoding="utf-8"))
        # On a terminal the text is its own progress, and a bar would write over it.
        advance = stack.enter_context(progress("generating", words, shown=bool(out) or not sys.stdout.isatty()))
        for count, word in enumerate(text, start=1):
            file.write(word + (" " if count % WORDS_PER_LINE and count < words else "\n"))
            advance(1)

"""``lstmq quantize``: an int8 model as a file of its own."""

from pathlib import Path
from typing import Unpack, cast

import click
import torch

from lstmq.cli.options import FILE, Files, model_options
from lstmq.quantization import quantize
from lstmq.quantization.native import NativeModel, file
from lstmq.workload import load_text_subject

NATIVE = "int8-native"


@click.command("quantize")
@model_options
@click.option("--scheme", type=click.Choice([NATIVE]), default=NATIVE, help="How to store it.")
@click.option("--out", type=FILE, required=True, help="The file to write, .int8.safetensors.")
def quantize_command(*, threads: int, engine: str | None, scheme: str, out: Path, **files: Unpack[Files]) -> None:
    """Write the model in int8, as plain tensors and their scales, a quarter as large.

    `evaluate` and `generate` take the file as --checkpoint, with the corpus that it was trained on.
    """
    torch.set_num_threads(threads)
    subject = load_text_subject(**files)
    file.save_native(cast(NativeModel, quantize(subject.model, scheme, engine)), subject.dictionary, out)
    click.echo(f"{out}: {scheme}, {out.stat().st_size / 1e6:.2f} MB, read back; made of {subject.origin}")

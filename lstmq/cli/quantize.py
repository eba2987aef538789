"""``lstmq quantize``: an int8 model as a file."""

from pathlib import Path
from typing import Unpack, cast

import click

from lstmq.cli.options import FILE, Files, model_options
from lstmq.cli.output import echo_beside
from lstmq.files import check_folder

NATIVE = "int8-native"


@click.command("quantize")
@model_options
@click.option("--scheme", type=click.Choice([NATIVE]), default=NATIVE, help="Quantization scheme.")
@click.option("--out", type=FILE, required=True, help="File to write, such as model.int8.safetensors.")
def quantize_command(*, engine: str | None, scheme: str, out: Path, **files: Unpack[Files]) -> None:
    """Write the model in int8, as a safetensors file of about a quarter of the size.

    Pass the file to `lstmq evaluate` and `lstmq generate` as --checkpoint, with the corpus that the model was trained
    on.
    """
    from lstmq.quantization import quantize
    from lstmq.quantization.native import NativeModel, save_native
    from lstmq.workload import load_text_subject

    line_out = echo_beside(out)
    check_folder(out)
    subject = load_text_subject(**files)
    model = cast(NativeModel, quantize(subject.model, scheme, engine))
    size = save_native(model, subject.dictionary, out)
    line_out(f"{out}: {scheme}, {size / 1e6:.2f} MB, read back; made from {subject.origin}")

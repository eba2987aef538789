"""``lstmq export``: an ONNX file to deploy."""

from pathlib import Path
from typing import Unpack, cast

import click

from lstmq import __version__
from lstmq.cli.options import FILE, Files, model_options, stream_options
from lstmq.cli.output import echo_beside
from lstmq.files import atomic_write, check_folder
from lstmq.quantization import FLOAT32, SCHEMES

FP32, INT8 = "ort-fp32", "ort-int8"
SCHEME_NAMES = [name for name in SCHEMES if name.startswith("ort-")]
TOLERANCE = 1e-4  # nats per token, for float32
TOLERANCE_INT8 = 0.02  # share of the loss, for int8. A wrong graph differs by more.


@click.command("export")
@model_options
@stream_options
@click.option("--scheme", type=click.Choice(SCHEME_NAMES), help=f"Quantization scheme. [{FP32}]")
@click.option("--int8", is_flag=True, help=f"Short for --scheme {INT8}.")
@click.option("--out", type=FILE, required=True, help="File to write, such as model.onnx.")
def export_command(
    *,
    engine: str | None,
    tokens: int | None,
    bptt: int,
    scheme: str | None,
    int8: bool,
    out: Path,
    **files: Unpack[Files],
) -> None:
    """Write the model as an ONNX file, which also contains the dictionary and the measured loss.

    The command reads the file back and compares its loss with that of float32 in torch, on the first 5,000 tokens of
    the test split or as many as --tokens says. If they differ too much, it writes no file.
    """
    import torch

    from lstmq.comparison import compare_predictions
    from lstmq.model import evaluate
    from lstmq.quantization import quantize
    from lstmq.quantization.onnx import Measurement, Metadata, OnnxFile, OnnxModel, read_onnx, write_onnx
    from lstmq.workload import DEFAULT_TOKENS, load_text_subject

    if int8 and scheme not in (None, INT8):
        raise click.UsageError(f"--int8 means --scheme {INT8}, found --scheme {scheme}")
    scheme = scheme or (INT8 if int8 else FP32)
    line_out = echo_beside(out)
    check_folder(out)
    subject = load_text_subject(**files, tokens=tokens, at_most=DEFAULT_TOKENS)
    model = cast(OnnxModel, quantize(subject.model, scheme, engine))
    stream, origin, words = subject.stream, subject.origin, subject.dictionary.idx2word
    compared = compare_predictions(subject.model, {FLOAT32: subject.model, scheme: model}, stream, bptt)
    float32, result = compared[FLOAT32].loss, compared[scheme]
    measured = Measurement(loss=result.loss, float32=float32, kl=result.kl, tokens=stream.tokens, origin=origin)
    versions = {"lstmq": __version__, "torch": str(torch.__version__)}
    metadata = Metadata(scheme=scheme, config=model.config, vocabulary=words, measured=measured, **versions)
    with atomic_write(out) as path:
        write_onnx(path, OnnxFile(model=model, metadata=metadata))
        written = read_onnx(path)
        loss = evaluate(written.model, stream, bptt)
        tolerance = TOLERANCE if scheme == FP32 else TOLERANCE_INT8 * float32
        if written.metadata != metadata or not abs(loss - float32) <= tolerance:
            raise ValueError(
                f"not written: expected a loss within {tolerance:.2g} of torch's {float32:.6f}, found {loss:.6f}"
            )
        size = path.stat().st_size
    line_out(f"{out}: {scheme}, {size / 1e6:.2f} MB, read back and evaluated on:")
    line_out(origin)
    line_out(f"loss {loss:.6f} nats per token, {loss - float32:+.6f} from torch's float32")

"""``lstmq evaluate``: the loss of one model."""

from typing import Unpack

import click

from lstmq.cli.options import Files, model_options, quantize_for, scheme_option, stream_options
from lstmq.cli.output import echo
from lstmq.progress import progress
from lstmq.quantization import FLOAT32


@click.command("evaluate")
@model_options
@stream_options
@scheme_option
def evaluate_command(*, engine: str | None, tokens: int | None, bptt: int, scheme: str, **files: Unpack[Files]) -> None:
    """Print the loss and the perplexity of one model on the test split."""
    from lstmq.model import LSTMModel, mean_loss, perplexity, window_losses
    from lstmq.workload import load_text_subject

    subject = load_text_subject(**files, tokens=tokens)
    model = quantize_for(subject.model, scheme, engine)
    windows = []
    with progress("evaluating", subject.stream.tokens) as advance:
        for window in window_losses(model, subject.stream, bptt):
            windows.append(window)
            advance(window.tokens)
    loss = mean_loss(windows)
    name = "as stored" if scheme == FLOAT32 and not isinstance(model, LSTMModel) else scheme
    echo(f"{name}: {subject.origin}")
    echo(f"loss {loss:.6f} nats per token, perplexity {perplexity(loss):,.2f}")

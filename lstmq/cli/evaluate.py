"""``lstmq evaluate``: the loss of one model."""

from typing import Unpack

import click
import torch

from lstmq.cli.options import Files, in_scheme, model_options, progress, scheme_option, stream_options
from lstmq.model import LSTMModel, mean_loss, perplexity, window_losses
from lstmq.quantization import FLOAT32
from lstmq.workload import load_text_subject


@click.command("evaluate")
@model_options
@stream_options
@scheme_option
def evaluate_command(
    *,
    threads: int,
    engine: str | None,
    tokens: int | None,
    bptt: int,
    scheme: str,
    **files: Unpack[Files],
) -> None:
    """Print one model's loss and perplexity."""
    torch.set_num_threads(threads)
    subject = load_text_subject(**files, tokens=tokens)
    model = in_scheme(subject.model, scheme, engine)
    windows = []
    with progress("evaluating", subject.stream.places) as advance:
        for window in window_losses(model, subject.stream, bptt):
            windows.append(window)
            advance(window.tokens)
    loss = mean_loss(windows)
    stored = "as stored" if scheme == FLOAT32 and not isinstance(model, LSTMModel) else scheme
    click.echo(f"{stored}: {subject.origin}")
    click.echo(f"loss {loss:.6f} nats per token, perplexity {perplexity(loss):,.2f}")

"""The loss of a model on a stream: :func:`evaluate`, window by window with :func:`window_losses`."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lstmq.batching import windows
from lstmq.model import LSTMModel


class WindowLoss(NamedTuple):
    """What a model makes of one window."""

    total: float  # cross-entropy summed over the window's tokens, in nats
    tokens: int


def evaluate(model: LSTMModel, source: Tensor, bptt: int) -> float:
    """Return the mean cross-entropy of ``model`` on ``source``, in nats per token.

    Hidden state is carried between windows, so ``bptt`` bounds memory and changes the result only by rounding.
    The model is in evaluation mode meanwhile, and every module of it is put back into its own mode afterwards.

    Args:
        model: float32 or quantized.
        source: int64 ids from :func:`~lstmq.batchify`, shape ``(steps, bsz)``.
        bptt: longest window, in steps; at least 1.

    Raises:
        ValueError: if ``steps < 2`` (there is no target), ``bptt < 1``, or an id is not a word of the model's.
    """
    return mean_loss(window_losses(model, source, bptt))


def mean_loss(losses: Iterable[WindowLoss]) -> float:
    """Return the mean over all tokens of all windows, in nats per token: a short last window weighs what it holds."""
    losses = list(losses)
    return math.fsum(window.total for window in losses) / sum(window.tokens for window in losses)


def window_losses(model: LSTMModel, source: Tensor, bptt: int) -> Iterator[WindowLoss]:
    """Yield the loss of each window; the arguments and errors are :func:`evaluate`'s."""
    pairs = windows(source, bptt)
    smallest, largest = (int(bound) for bound in source.aminmax())
    if smallest < 0 or largest >= model.config.ntoken:
        outside = smallest if smallest < 0 else largest
        raise ValueError(f"the model knows {model.config.ntoken:,} words, but the source holds the id {outside:,}")
    return _window_losses(model, source.shape[1], pairs)


@torch.inference_mode()
def _window_losses(model: LSTMModel, bsz: int, pairs: Iterator[tuple[Tensor, Tensor]]) -> Iterator[WindowLoss]:
    hidden = model.init_hidden(bsz)
    with evaluation_mode(model):
        for data, targets in pairs:
            logits, hidden = model(data, hidden)
            # The loss is float32 whatever the model computes in.
            total = F.cross_entropy(logits.flatten(0, 1).float(), targets, reduction="sum")
            yield WindowLoss(total.item(), len(targets))


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode inside the block, and back into its own mode after it."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def perplexity(loss: float) -> float:
    """Return ``exp(loss)``: among how many equally likely words the model hesitates; infinite past float64's range."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf

"""The loss of a model on a stream: :func:`evaluate`, window by window with :func:`window_losses`."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstmq.model.base import LanguageModel
from lstmq.model.reader import StreamReader
from lstmq.text import Stream, next_words


class WindowLoss(NamedTuple):
    """What a model makes of one window."""

    total: float  # the loss summed over the window's tokens, in nats if it is the cross-entropy
    tokens: int  # steps times columns


def evaluate(model: nn.Module, source: Tensor | Stream, bptt: int) -> float:
    """Return the mean loss of ``model`` on ``source``: of words the cross-entropy, in nats per token.

    Hidden state is carried between windows, so ``bptt`` bounds memory and changes the result only by rounding.
    The model is in evaluation mode meanwhile, and every module of it is put back into its own mode afterwards.

    Args:
        model: float32 or quantized, as for :class:`Reader`.
        source: int64 ids from :func:`~lstmq.batchify`, shape ``(steps, bsz)``, whose next words are the targets; or a
            stream with targets, and perhaps a loss, of its own.
        bptt: longest window, in steps; at least 1.

    Raises:
        ValueError: if ``steps < 2`` (there is no target), ``bptt < 1``, or an id is not a word of the model's.
    """
    return mean_loss(window_losses(model, source, bptt))


def mean_loss(losses: Iterable[WindowLoss]) -> float:
    """Return the mean over all tokens of all windows, in nats per token: a short last window weighs what it holds."""
    losses = list(losses)
    return math.fsum(window.total for window in losses) / sum(window.tokens for window in losses)


def window_losses(model: nn.Module, source: Tensor | Stream, bptt: int) -> Iterator[WindowLoss]:
    """Yield the loss of each window; the arguments and errors are :func:`evaluate`'s."""
    stream = source if isinstance(source, Stream) else next_words(source)
    windows = stream.windows(bptt)
    if isinstance(model, LanguageModel):
        for ids in (stream.inputs, stream.targets):
            _check_ids(ids, model.config.ntoken)
    return _window_losses(model, stream.inputs.shape[1], windows)


def _check_ids(ids: Tensor, ntoken: int) -> None:
    smallest, largest = (int(bound) for bound in ids.aminmax())
    if smallest < 0 or largest >= ntoken:
        outside = smallest if smallest < 0 else largest
        raise ValueError(f"the model knows {ntoken:,} words, but the source holds the id {outside:,}")


@torch.inference_mode()
def _window_losses(model: nn.Module, bsz: int, windows: Iterator[Stream]) -> Iterator[WindowLoss]:
    reader = StreamReader(model, bsz)
    with evaluation_mode(model):
        for window in windows:
            yield WindowLoss(reader.window_loss(window).item(), window.tokens)


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

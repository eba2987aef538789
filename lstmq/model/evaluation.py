"""The loss of a model on a text or another stream: :func:`evaluate`."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstmq.model.base import LanguageModel
from lstmq.model.randomness import may_draw, preserve_random_state
from lstmq.model.reader import StreamReader
from lstmq.text import IGNORED, Stream, next_words


class WindowLoss(NamedTuple):
    """The loss of one window."""

    total: float  # summed over the targets of the window; the cross-entropy is in nats
    targets: int  # targets that the loss counts
    tokens: int  # steps times columns


def evaluate(model: nn.Module, source: Tensor | Stream, bptt: int) -> float:
    """Return the mean loss of a model over all targets. For a text it is the cross-entropy, in nats per token.

    The model reads window by window and carries its hidden state from one to the next, so a shorter ``bptt`` needs less
    memory and changes the result only by rounding. The model reads in evaluation mode. Afterwards, each of its modules
    is in the same mode as before.

    Args:
        model: float32 or quantized. Models other than this package's need a forward of the form
            ``(input, state) -> (output, state)`` or ``input -> output``, or a stream that says how to call them.
        source: int64 ids from :func:`~lstmq.batchify`, shape ``(steps, bsz)``, at least 2 steps; or a stream, which
            has its own targets and may have its own loss.
        bptt: longest window, in steps; at least 1.

    Raises:
        ValueError: if ``source`` or ``bptt`` is out of range, the model does not know an id, no target counts, or the
            model cannot be called.

    Example:
        >>> from lstmq import Corpus, batchify, evaluate, load_checkpoint
        >>> model = load_checkpoint("data/sample/lstm.safetensors")
        >>> source = batchify(Corpus("data/sample").test[:500], bsz=1)
        >>> print(f"{evaluate(model, source, bptt=25):.1f} nats per token")
        1.7 nats per token
    """
    return mean_loss(window_losses(model, source, bptt))


def mean_loss(losses: Iterable[WindowLoss]) -> float:
    """Return the mean loss over the targets of all windows, in nats per target if it is the cross-entropy.

    Raises:
        ValueError: if no target counts.
    """
    losses = list(losses)
    if not (targets := sum(window.targets for window in losses)):
        raise ValueError(f"expected a target that counts, found only {IGNORED}")
    return math.fsum(window.total for window in losses) / targets


def window_losses(model: nn.Module, source: Tensor | Stream, bptt: int) -> Iterator[WindowLoss]:
    """Yield the loss of each window. Arguments and errors as for :func:`evaluate`."""
    stream = source if isinstance(source, Stream) else next_words(source)
    windows = stream.windows(bptt)
    if isinstance(model, LanguageModel):
        targets = stream.targets[stream.targets != IGNORED] if stream.has_ignored else stream.targets
        for ids in (stream.inputs, targets):
            _check_ids(ids, model.config.ntoken)
    return _read_windows(model, stream, windows)


def _check_ids(ids: Tensor, ntoken: int) -> None:
    if not isinstance(ids, Tensor) or not ids.numel():
        return
    smallest, largest = (int(bound) for bound in ids.aminmax())
    if smallest < 0 or largest >= ntoken:
        unknown = smallest if smallest < 0 else largest
        raise ValueError(f"the model knows {ntoken:,} words, but the source contains the id {unknown:,}")


@torch.inference_mode()
def _read_windows(model: nn.Module, stream: Stream, windows: Iterator[Stream]) -> Iterator[WindowLoss]:
    with preserve_random_state() if may_draw(model) else nullcontext(), evaluation_mode(model):
        reader = StreamReader(model, stream)
        for window in windows:
            loss, targets = reader.window_loss(window)
            yield WindowLoss(loss.item(), targets, window.tokens)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put all modules of a model into evaluation mode while the block runs, and restore their modes afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def perplexity(loss: float) -> float:
    """Return ``exp(loss)``. A model that finds 100 words equally likely has a perplexity of 100.

    Args:
        loss: mean cross-entropy in nats per token.

    Returns:
        The perplexity; infinity if it is too large for a float.

    Example:
        >>> import math
        >>> from lstmq import perplexity
        >>> perplexity(0.0)
        1.0
        >>> round(perplexity(math.log(100)))
        100
    """
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf

"""The loss of a model on a stream: :func:`evaluate`, window by window with :func:`window_losses`."""

import inspect
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from lstmq.model.lstm import LanguageModel
from lstmq.text import Stream, next_words

STATE_NAMES = ("hidden", "hx", "state")  # what a forward may call its state


class WindowLoss(NamedTuple):
    """What a model makes of one window."""

    total: float  # the loss summed over the window's tokens, in nats if it is the cross-entropy
    tokens: int  # steps times columns


class StreamReader:
    """A model that reads one window after the other, and what it remembers between them.

    Its forward is ``(input, hidden) -> (output, hidden)`` or ``input -> output``. It is taken for the former if the
    model has an ``init_hidden``, or if forward's second argument has no default or one of the names :data:`HIDDEN`.
    The state begins as ``model.init_hidden(bsz)`` gives it, or as ``None``, which is zero to torch's own modules. For a
    model in bfloat16, inputs that are no ids, and the state, are cast to it.

    A model with a ``window_loss``, as :class:`~lstmq.LanguageModel` describes it, is asked for the cross-entropy.

    Args:
        model: as above.
        bsz: columns that it reads.
    """

    def __init__(self, model: nn.Module, bsz: int) -> None:
        self.model = model
        self._remembers = _has_state(model)
        weights = {weight.dtype for weight in model.parameters()}
        self._half = weights == {torch.bfloat16}
        self._window_loss: Any = getattr(model, "window_loss", None)
        begin: Any = getattr(model, "init_hidden", lambda _: None)
        self._hidden = self._cast(begin(bsz))

    def read(self, inputs: Tensor) -> Tensor:
        """Return what the model makes of a window, shape ``(n, bsz, ...)``.

        Raises:
            ValueError: if its forward gives neither a tensor nor, with a state, a pair.
        """
        output = self.model(self._cast(inputs), *([self._hidden] if self._remembers else []))
        if self._remembers and isinstance(output, tuple) and len(output) == 2:
            output, self._hidden = output
        if not isinstance(output, Tensor):
            expected = "(output, hidden)" if self._remembers else "a tensor"
            raise ValueError(f"expected {expected} of {type(self.model).__name__}, found {type(output).__name__}")
        return output

    def total_loss(self, window: Stream) -> Tensor:
        """Read a window and return its loss, summed over the targets: a scalar, float32."""
        if window.loss is not None or self._window_loss is None:
            return window.total_loss(self.read(window.inputs))
        total, self._hidden = self._window_loss(window.inputs, window.targets, self._hidden)
        return cast(Tensor, total)

    def told(self, window: Stream) -> tuple[Tensor, Tensor]:
        """Read a window and return its loss, as :meth:`total_loss` does, and what the model makes of it.

        A model with a ``window_loss`` reads twice, for its logits may come another way.
        """
        before = self._hidden
        output = self.read(window.inputs)
        if window.loss is not None or self._window_loss is None:
            return window.total_loss(output), output
        self._hidden = before
        return self.total_loss(window), output

    def _cast(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(self._cast, value))
        real = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(torch.bfloat16) if self._half and real else value


def _has_state(model: nn.Module) -> bool:
    if hasattr(model, "init_hidden"):
        return True
    arguments = [*inspect.signature(model.forward).parameters.values()]
    second = next((each for each in arguments[1:] if each.kind is each.POSITIONAL_OR_KEYWORD), None)
    return second is not None and (second.default is second.empty or second.name in STATE_NAMES)


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
            yield WindowLoss(reader.total_loss(window).item(), window.places)


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

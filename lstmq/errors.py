"""Errors and warnings that several packages raise, and errors as one line. This module does not import torch."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lstmq.escaping import show


class InputNote(UserWarning):
    """What was changed while an input was read, such as a byte order mark that was removed."""


class InputWarning(InputNote):
    """An input can be read, but may not be what was meant."""


class QuantizationError(ValueError):
    """The model cannot be quantized with this scheme, or this environment cannot run the scheme.

    Example:
        >>> import torch
        >>> from lstmq import QuantizationError, quantize
        >>> try:
        ...     quantize(torch.nn.ReLU())
        ... except QuantizationError as error:
        ...     print(error)
        nothing to quantize: ReLU holds no float LSTM, GRU, LSTMCell, GRUCell, RNNCell, Linear
    """


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line, with control characters as escapes.

    The name of the error's type comes first, except for ``ValueError`` and ``OSError``, whose messages say enough.
    """
    message, kind = show(" ".join(str(error).split())), type(error).__name__
    if message and isinstance(error, ValueError | OSError):
        return message
    return f"{kind}: {message}" if message else kind


@contextmanager
def prefix_errors(
    path: str | Path, caught: type[Exception] = ValueError, raised: type[Exception] = ValueError
) -> Iterator[None]:
    """Replace an error from the block by one whose message is the path and the old message, in one line.

    Args:
        path: the file that the block reads.
        caught: the type of the errors to replace.
        raised: the type to raise instead.
    """
    try:
        yield
    except caught as error:
        raise raised(f"{path}: {one_line(error)}") from None

"""Errors as one line: :func:`one_line`, and the error that several packages raise."""


class QuantizationError(ValueError):
    """The model cannot be quantized with this scheme, or this environment cannot run the scheme.

    Example:
        >>> import torch
        >>> from lstmq import QuantizationError, quantize
        >>> try:
        ...     quantize(torch.nn.ReLU())
        ... except QuantizationError as error:
        ...     print(error)
        nothing to quantize: ReLU holds no float LSTM, Linear
    """


def one_line(error: BaseException) -> str:
    """Return the message of an error in one line, after the name of its type unless the message speaks for itself."""
    message, kind = " ".join(str(error).split()), type(error).__name__
    if message and isinstance(error, ValueError | OSError):
        return message
    return f"{kind}: {message}" if message else kind

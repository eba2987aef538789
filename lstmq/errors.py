"""What an error says, in a line: :func:`in_a_line`; and the error that more than one module raises."""


class QuantizationError(ValueError):
    """A model that cannot be quantized as asked, or an environment that cannot do it."""


def one_line(error: BaseException) -> str:
    """Return an error's words in one line, after the name of its type if that is none that speaks for itself."""
    said, kind = " ".join(str(error).split()), type(error).__name__
    if said and isinstance(error, ValueError | OSError):
        return said
    return f"{kind}: {said}" if said else kind

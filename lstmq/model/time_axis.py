"""Finds streams whose first two dimensions a model reads the other way round: :func:`checking_time_axis`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from lstmq.text import Stream


class TimeAxisError(ValueError):
    """A module read steps as columns."""


def reads_other_axis(model: nn.Module, stream: Stream) -> bool:
    """Return whether a module of the model takes time in another dimension than the stream has it, so it may be wrong.

    It need not be: the model may swap the dimensions before and after that module.
    """
    return stream.batch_first is not False and any(_suspects(model, stream))


@contextmanager
def checking_time_axis(model: nn.Module, window: Stream) -> Iterator[None]:
    """Check, while the model reads a window in the block, that no module takes steps for columns.

    Raises:
        TimeAxisError: if one does. It asks whether ``batch_first`` is right.
    """
    with ExitStack() as hooks:
        for name, module in _suspects(model, window):
            hook = partial(_check_shape, name, window)
            hooks.callback(module.register_forward_pre_hook(hook).remove)
        yield


def _suspects(model: nn.Module, stream: Stream) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        batch_first = getattr(module, "batch_first", None)
        if isinstance(batch_first, bool) and batch_first is not bool(stream.batch_first):
            yield name, module


def _check_shape(name: str, window: Stream, module: Any, inputs: tuple[Any, ...]) -> None:
    first, steps, columns = next(iter(inputs), None), len(window), window.columns
    if not isinstance(first, Tensor) or first.dim() < 3 or steps == columns:
        return
    expected = (columns, steps) if module.batch_first else (steps, columns)
    if tuple(first.shape[:2]) == expected[::-1]:
        wanted = "(bsz, steps, ...)" if module.batch_first else "(steps, bsz, ...)"
        raise TimeAxisError(
            f"{name or 'the model'}, a {type(module).__name__} with batch_first={module.batch_first}, expected shape "
            f"{wanted}, found {tuple(first.shape)} in a window of {steps} steps and {columns} columns. Does the model "
            f"read {wanted}? Then give inputs and targets of that shape to Stream(batch_first={module.batch_first}). "
            "If it is right as it is, pass batch_first=False"
        )

"""Keeps torch from looking into code that computes outside of torch: :func:`check_eager`, :func:`uncompiled`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lstmq.errors import QuantizationError

# Names of functions that every step of a cell calls: to look each of them up takes as long as to call it.
_is_compiling: Any = getattr(torch.compiler, "is_compiling", bool)  # old versions of torch do not have it
_get_tracing_state: Any = torch._C._get_tracing_state
_peek_interpreter_stack: Any = torch._C._functorch.peek_interpreter_stack
_set_eval_frame: Any = torch._C._dynamo.eval_frame.set_eval_frame


def check_eager(scheme: str) -> None:
    """Check that torch only runs the model. Else it would record other operations than those that compute.

    Args:
        scheme: names the model in the error.

    Raises:
        QuantizationError: while torch exports, traces or transforms the model, or runs it on fake tensors.
    """
    if not is_eager():
        raise QuantizationError(
            f"{scheme} computes outside of torch: torch cannot compile, export, trace, vmap or differentiate it, "
            "or run it on fake tensors"
        )


def is_eager() -> bool:
    """Return whether torch only runs what is called now."""
    # First whether it compiles, because torch.compile may not understand the other calls.
    return not (_is_compiling() or is_transforming() or has_dispatch_mode())


def is_compiling() -> bool:
    """Return whether torch.compile or torch.export records what runs now."""
    return bool(_is_compiling())


def is_transforming() -> bool:
    """Return whether torch traces what runs now for TorchScript, or transforms it, as vmap does."""
    return _get_tracing_state() is not None or _peek_interpreter_stack() is not None


def has_dispatch_mode() -> bool:
    """Return whether something sees every operator of torch, such as the mode of fake tensors."""
    return _get_current_dispatch_mode() is not None


@contextmanager
def uncompiled() -> Iterator[None]:
    """Switch torch.compile off in a block that passes pointers, because it would trace it with arrays without memory.

    Some versions of torch.compile run a function as it is if it raises an error while they compile, and then compile
    the functions that it calls. This is what ``torch.compiler.disable`` does, whose import takes seconds.
    """
    before = switch_compiler(None)
    try:
        yield
    finally:
        switch_compiler(before)


def switch_compiler(callback: Any) -> Any:
    """Set what compiles the functions that are called; ``None`` for nothing. Return what did so before."""
    return _set_eval_frame(callback)

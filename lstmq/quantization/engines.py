"""Torch's backends for int8 products, which torch calls engines: x86, fbgemm, onednn and qnnpack."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lstmq.errors import QuantizationError


def check_engine(engine: str | None) -> None:
    """Check that torch supports an engine on this machine. ``None`` stands for torch's own choice.

    Raises:
        QuantizationError: if it does not.
    """
    supported = set(getattr(_backend(), "supported_engines", ())) - {"none"}
    if engine is not None and engine not in supported:
        names = ", ".join(sorted(supported)) or "none"
        raise QuantizationError(f"no engine {engine!r} in torch {torch.__version__} on this machine: it has {names}")


@contextmanager
def using_engine(engine: str | None) -> Iterator[None]:
    """Select an engine while the block runs, and restore the old one afterwards. ``None`` keeps torch's own choice.

    Raises:
        QuantizationError: if torch does not support the engine on this machine.
    """
    check_engine(engine)
    backend, before = _backend(), default_engine()
    try:
        if engine is not None:
            backend.engine = engine
        yield
    finally:
        if backend is not None:
            backend.engine = before


def default_engine() -> str:
    """Return the engine that torch uses now, or ``none``."""
    return str(getattr(_backend(), "engine", "none"))


def _backend() -> Any:
    """Return torch's module of engines, or ``None`` if this torch has none."""
    return getattr(torch.backends, "quantized", None)

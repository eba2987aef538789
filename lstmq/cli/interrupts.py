"""Turns an interrupt into a flag: :func:`interrupts`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets, so that the block can finish a step and stop.

    The second signal ends the process. The old handlers return after the block.
    """
    interrupted = threading.Event()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(_number: int, _frame: FrameType | None) -> None:
        interrupted.set()
        for number in handlers:
            signal.signal(number, signal.SIG_DFL)

    try:
        for number in handlers:
            signal.signal(number, handle)
        yield interrupted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)

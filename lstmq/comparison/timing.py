"""The clock of a comparison, and what float32 gains without mkldnn."""

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice

import torch
from torch import nn

from lstmq.model import window_losses
from lstmq.text import Stream

MKLDNN_WINDOWS, MKLDNN_SECONDS = 9, 2  # at most, to see whether float32 is faster without mkldnn


def clock() -> Callable[[], float]:
    """Return the clock for timing windows, in seconds.

    With one thread, it is the CPU time of that thread, which excludes other programs. With several, it is wall time.
    """
    return time.thread_time if torch.get_num_threads() == 1 else time.perf_counter


def warm_up(model: nn.Module, stream: Stream, bptt: int) -> None:
    """Read one window of every length, because an engine may prepare itself for each."""
    for length in {min(bptt, len(stream)), len(stream) % bptt} - {0}:
        _read(model, stream.slice(0, length))


def measure_mkldnn_off(model: nn.Module, stream: Stream, bptt: int) -> float | None:
    """Return the speed of a float32 model without mkldnn over its speed with it, the median over some windows.

    mkldnn is torch's default for LSTMs, also where it is slower.
    """
    if not (torch._C._has_mkldnn and torch._C._get_mkldnn_enabled()):
        return None
    now, start = clock(), time.perf_counter()
    ratios = []
    for window in islice(stream.windows(bptt), MKLDNN_WINDOWS):
        seconds = []
        for setting in (nullcontext, without_mkldnn):
            with setting():
                before = now()
                _read(model, window)
                seconds.append(now() - before)
        ratios.append(seconds[0] / seconds[1])
        if time.perf_counter() - start > MKLDNN_SECONDS:
            break
    return statistics.median(ratios)


@contextmanager
def without_mkldnn() -> Iterator[None]:
    """Turn mkldnn, which must be on, off while the block runs."""
    torch._C._set_mkldnn_enabled(False)  # torch.backends.mkldnn.flags does more, and warns
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(True)


def _read(model: nn.Module, window: Stream) -> None:
    deque(window_losses(model, window, len(window)), maxlen=0)

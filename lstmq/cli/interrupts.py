"""What a long run asks of the system: company, a device, and to be told when to stop."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist


@contextmanager
def process_group(device: str) -> Iterator[tuple[torch.device, bool]]:
    """Join the processes that torchrun started, if it did; give this one's device, and whether it is to write.

    Raises:
        ValueError: if there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        place = torch.device(device)
        if place.type not in ("cpu", "cuda"):
            raise RuntimeError("expected cpu or cuda")
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError) as error:  # torch says either, of a device that it has not
        raise ValueError(f"no device {device!r}: {str(error).partition(chr(10))[0]}") from None
    if "WORLD_SIZE" not in os.environ:
        yield place, True
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield place, dist.get_rank() == 0
    finally:
        dist.destroy_process_group()


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Give what is set at the first interrupt or termination, so that a step is never cut in two; the second kills."""
    asked = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()
        for number in before:
            signal.signal(number, signal.SIG_DFL)

    try:
        for number in before:
            signal.signal(number, ask)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

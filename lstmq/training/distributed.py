"""The processes that share a training run, or the one that has it alone: :class:`Ranks`."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor


class ProcessGroup:
    """The default process group of ``torch.distributed``, if there is one. But for ``shard``, all must call alike.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
        device: that their tensors are on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    def shard(self, columns: Tensor) -> Tensor:
        """Return this process's part of what has a column in dimension 1 for every one of the batch, on its device."""
        part = columns.shape[1] // self.size
        return columns[:, self.rank * part : (self.rank + 1) * part].contiguous().to(self.device)

    def gather(self, part: Tensor) -> Tensor:
        """Return what :meth:`shard` was given, on the CPU."""
        if self.size == 1:
            return part.cpu()
        parts = [torch.empty_like(part) for _ in range(self.size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts, dim=1).cpu()

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of the processes' values."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value / self.size

    def any(self, says_so: bool) -> bool:
        """Return whether any of them says so."""
        if self.size == 1:
            return says_so
        votes = torch.tensor(float(says_so), device=self.device)
        dist.all_reduce(votes)
        return bool(votes)


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

"""Shares a training run between processes: :func:`process_group` joins them, :class:`ProcessGroup` passes tensors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from lstmq.errors import one_line


class ProcessGroup:
    """The default process group of ``torch.distributed``, or this process alone if there is no group.

    All processes must call :meth:`gather`, :meth:`mean` and :meth:`any` in the same order.

    Args:
        device: the device of the tensors of this process.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    def shard(self, columns: Tensor) -> Tensor:
        """Return the columns of this process, on its device.

        Args:
            columns: any dtype, shape ``(n, bsz, ...)``, where ``bsz`` is a multiple of the number of processes.

        Returns:
            Shape ``(n, bsz // size, ...)``.
        """
        width = columns.shape[1] // self.size
        return columns[:, self.rank * width : (self.rank + 1) * width].contiguous().to(self.device)

    def gather(self, shard: Tensor) -> Tensor:
        """Return the columns of all processes, on the CPU: the opposite of :meth:`shard`."""
        if self.size == 1:
            return shard.cpu()
        shards = [torch.empty_like(shard) for _ in range(self.size)]
        dist.all_gather(shards, shard.contiguous())
        return torch.cat(shards, dim=1).cpu()

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a float tensor over all processes."""
        if self.size > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value / self.size

    def any(self, value: bool) -> bool:
        """Return whether the value is true in any process."""
        if self.size == 1:
            return value
        count = torch.tensor(float(value), device=self.device)
        dist.all_reduce(count)
        return bool(count)


@contextmanager
def process_group(device: str) -> Iterator[tuple[torch.device, bool]]:
    """Join the other processes in the block, if torchrun started this one.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. ``auto`` is a GPU if there is one.

    Yields:
        The device of this process, and whether this process is the one that writes files and prints.

    Raises:
        ValueError: if the device does not exist.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        torch_device = torch.device(device)
        if torch_device.type not in ("cpu", "cuda"):
            raise ValueError("expected cpu or cuda")
        torch.empty(1, device=torch_device)
    except (RuntimeError, AssertionError, ValueError) as error:  # torch raises the first two
        raise ValueError(f"no device {device!r}: {one_line(error)}") from None
    if "WORLD_SIZE" not in os.environ:
        yield torch_device, True
        return
    if torch_device.type == "cuda":
        torch.cuda.set_device(torch_device)
    dist.init_process_group("nccl" if torch_device.type == "cuda" else "gloo")
    try:
        yield torch_device, dist.get_rank() == 0
    finally:
        dist.destroy_process_group()

"""The processes that share a training run, or the one that has it alone: :class:`Ranks`."""

import torch
import torch.distributed as dist
from torch import Tensor


class ProcessGroup:
    """The default process group of ``torch.distributed``, if there is one. But for ``share``, all must call alike.

    Attributes:
        rank: of this process, from 0.
        world: how many there are.
        device: that their tensors are on.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank, self.world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)

    def share(self, columns: Tensor) -> Tensor:
        """Return this process's part of what has a column in dimension 1 for every one of the batch, on its device."""
        part = columns.shape[1] // self.world
        return columns[:, self.rank * part : (self.rank + 1) * part].contiguous().to(self.device)

    def join(self, part: Tensor) -> Tensor:
        """Return what :meth:`share` was given, on the CPU."""
        if self.world == 1:
            return part.cpu()
        parts = [torch.empty_like(part) for _ in range(self.world)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts, dim=1).cpu()

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of the processes' values."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value / self.world

    def any(self, says_so: bool) -> bool:
        """Return whether any of them says so."""
        if self.world == 1:
            return says_so
        votes = torch.tensor(float(says_so), device=self.device)
        dist.all_reduce(votes)
        return bool(votes)

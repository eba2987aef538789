"""What a model weighs: the bytes of its serialised state dict.

Counting parameters would miss int8 weights, which torch packs into objects that are not parameters.
"""

import io
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from Python 3.12 on


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Serialised sizes in bytes; a megabyte is 1,000,000 of them, as in the tutorial.

    ``parts`` gives each direct child that holds any state as a file of its own, so the parts add up to about a
    kilobyte more a part than ``total``, the one file of the whole model: every file has a header.
    """

    total: int
    parts: dict[str, int]

    @property
    def megabytes(self) -> float:
        """``total`` in units of 1,000,000 bytes."""
        return self.total / 1e6


def model_size(model: nn.Module) -> ModelSize:
    """Measure ``torch.save(model.state_dict())``, whole and per part, without holding the bytes."""
    parts = {name: _serialised(child) for name, child in model.named_children() if child.state_dict()}
    return ModelSize(total=_serialised(model), parts=parts)


def _serialised(module: nn.Module) -> int:
    counter = _Counter()
    torch.save(module.state_dict(), cast("IO[bytes]", counter))
    return counter.bytes


class _Counter(io.RawIOBase):
    """A file that only counts what is written to it."""

    bytes = 0

    def write(self, data: "Buffer") -> int:
        written = memoryview(data).nbytes
        self.bytes += written
        return written

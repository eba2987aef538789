"""The size of a model: the bytes of its serialized state dict.

Counting parameters would miss int8 weights, because torch packs them into objects that are not parameters.
"""

import io
from dataclasses import dataclass
from typing import IO, Any, cast

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Serialized sizes in bytes.

    Attributes:
        total: size of the whole model as one file.
        parts: for each direct child with a state, its size as a file. Each file has a header of its own, so the parts
            add up to more than ``total``, by about 1,000 bytes per part.
    """

    total: int
    parts: dict[str, int]

    @property
    def megabytes(self) -> float:
        """``total`` in MB. As in the tutorial, a megabyte is 1,000,000 bytes."""
        return self.total / 1e6


def model_size(model: nn.Module) -> ModelSize:
    """Return the bytes of ``torch.save(model.state_dict())``, for the whole model and for each of its parts.

    Nothing is written, and the bytes are counted without being kept in memory.

    Args:
        model: any module.

    Example:
        >>> from lstmq import LSTMModel, ModelConfig, model_size
        >>> size = model_size(LSTMModel(ModelConfig(ntoken=1000, ninp=50, nhid=10, nlayers=1)))
        >>> list(size.parts)
        ['encoder', 'rnn', 'decoder']
        >>> size.parts["encoder"] // 1000  # 50,000 weights of 4 bytes, and a header
        201
    """
    parts = {name: _count_bytes(child) for name, child in model.named_children() if child.state_dict()}
    return ModelSize(total=_count_bytes(model), parts=parts)


def _count_bytes(module: nn.Module) -> int:
    counter = _Counter()
    torch.save(module.state_dict(), cast("IO[bytes]", counter))
    return counter.bytes


class _Counter(io.RawIOBase):
    """A file that counts the bytes written to it and drops them."""

    bytes = 0

    def write(self, data: Any) -> int:
        written = memoryview(data).nbytes
        self.bytes += written
        return written

"""The size of a model: the bytes of its serialized state dict.

Counting parameters would miss int8 weights, because torch packs them into objects that are not parameters.
"""

import io
from dataclasses import dataclass
from typing import IO, Any, cast

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Serialized sizes in bytes.

    Attributes:
        total: size of the whole model as one file.
        parts: for each direct child with a state, its size as a file. Each file has a header of its own, so the parts
            add up to more than ``total``, by about 1,000 bytes per part. A tensor that several parts share counts in
            the first of them.
    """

    total: int
    parts: dict[str, int]

    @property
    def megabytes(self) -> float:
        """``total`` in MB. As in the tutorial, a megabyte is 1,000,000 bytes."""
        return self.total / 1e6


def model_size(model: nn.Module) -> ModelSize:
    """Return the bytes of ``torch.save(model.state_dict())``, for the whole model and for each of its parts.

    Tensors that share memory, such as tied weights, count once. Nothing is written, and the bytes are counted without
    being kept in memory.

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
    parts, counted = {}, set[int]()
    for name, child in model.named_children():
        if state := child.state_dict():
            addresses = {key: value.untyped_storage().data_ptr() for key, value in state.items() if _is_dense(value)}
            for key in [key for key, address in addresses.items() if address in counted]:
                del state[key]
            parts[name] = _count_bytes(state)
            counted |= {*addresses.values()} - {0}  # 0 is the address of everything that is empty
    return ModelSize(total=_count_bytes(model.state_dict()), parts=parts)


def _is_dense(value: object) -> bool:
    """Return whether this is a tensor with one storage. The state of quantized modules also holds other objects."""
    return isinstance(value, Tensor) and value.layout is torch.strided


def _count_bytes(state: dict[str, Any]) -> int:
    counter = _Counter()
    torch.save(state, cast("IO[bytes]", counter))
    return counter.bytes


class _Counter(io.RawIOBase):
    """A file that counts the bytes written to it and drops them."""

    bytes = 0

    def write(self, data: Any) -> int:
        written = memoryview(data).nbytes
        self.bytes += written
        return written

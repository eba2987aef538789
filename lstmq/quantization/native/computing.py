"""Computes linear and recurrent modules with the selected kernel. The weights of a module come as a list of tensors.

A module packs its weights when it first computes, and again after a change of them.
"""

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache
from operator import is_, itemgetter
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from lstmq.quantization.native import reference
from lstmq.quantization.native.layout import RecurrentLayout, linear_weights
from lstmq.quantization.native.library import selected_kernel
from lstmq.quantization.native.packed_modules import PackedLinear, PackedRecurrent
from lstmq.quantization.native.packing import versions

Tensors = Mapping[str, Any]  # by name
Packed = TypeVar("Packed", PackedLinear, PackedRecurrent)


class PackedWeights(NamedTuple):
    """What was packed from a list of tensors."""

    packed: PackedLinear | PackedRecurrent
    versions: list[tuple[int, int]]
    references: list[weakref.ref[Tensor]]  # which forget the entry when a tensor is gone


class PackedCell:
    """What was packed from the tensors of a cell. The cell keeps it, because :func:`pack_once` takes longer.

    Args:
        layout: of the weights.
        buffers: those of the cell, with its integers.
        parameters: those of the cell, with its scales and biases.
    """

    def __init__(self, layout: RecurrentLayout, buffers: Tensors, parameters: Tensors) -> None:
        self._integers = itemgetter(*(name for name in layout.parts if name in buffers))
        self._floats = itemgetter(*(name for name in layout.parts if name in parameters))
        tensors = (*self._integers(buffers), *self._floats(parameters))
        # Read before they are packed, so that a change meanwhile is seen later.
        self._known = [(tensor, *version) for tensor, version in zip(tensors, versions(tensors), strict=True)]
        ordered = [buffers[name] if name in buffers else parameters[name] for name in layout.parts]
        self.packed = pack_once(layout, ordered, lambda: PackedRecurrent(layout.kind, layout.weights(ordered)))

    def is_copy_of(self, buffers: Tensors, parameters: Tensors) -> bool:
        """Return whether these tensors were packed, and :func:`versions` says that they did not change since."""
        tensors = (*self._integers(buffers), *self._floats(parameters))
        try:
            for tensor, (known, address, version) in zip(tensors, self._known, strict=True):
                if tensor is not known or tensor.data_ptr() != address or tensor._version != version:
                    return False
        except RuntimeError:  # a tensor that was made in inference mode has no version
            before, known = [version for _, *version in self._known], (tensor for tensor, *_ in self._known)
            return all(map(is_, tensors, known)) and [[*now] for now in versions(tensors)] == before
        return True


def run_linear(x: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Return the output of a linear layer, float32, shape ``(rows, out_features)``.

    Args:
        x: float32, shape ``(rows, in_features)``.
        tensors: integers, scale, and perhaps a bias.
    """
    if not len(x):
        return x.new_zeros(0, len(tensors[0]))
    if (kernel := selected_kernel()) is None:
        return reference.linear(linear_weights(tensors), x)
    return pack_once("linear", tensors, lambda: PackedLinear(linear_weights(tensors))).run(kernel, x)


def run_recurrent(
    layout: RecurrentLayout,
    x: Tensor,
    batch_sizes: Tensor | None,
    h: Tensor | None,
    c: Tensor | None,
    tensors: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Read sequences with all layers and directions.

    Args:
        layout: of the weights.
        x: float32, shape ``(steps, columns, input_size)``; or ``(rows, input_size)`` with batch sizes.
        batch_sizes: int64, as in a ``PackedSequence``.
        h: float32, shape ``(layers * directions, columns, width)``. The default is zero.
        c: float32, shape ``(layers * directions, columns, hidden_size)``, of an LSTM. The default is zero.
        tensors: as the layout lists them.

    Returns:
        The output, float32, in the shape of ``x`` but for the last dimension; and ``h`` and ``c`` after it. Of a GRU,
        ``c`` is ``None``.
    """
    if x.numel() and (kernel := selected_kernel()):
        packed = pack_once(layout, tensors, lambda: PackedRecurrent(layout.kind, layout.weights(tensors)))
        return packed.run(kernel, x, batch_sizes, h, c)
    sizes = [x.shape[1]] * x.shape[0] if batch_sizes is None else batch_sizes.tolist()
    if h is not None and h.shape[1] != sizes[0]:
        raise ValueError(f"h_0: expected {sizes[0]} columns, found {h.shape[1]}")
    height, width = tensors[2].shape
    states = layout.layers * layout.directions
    if h is None:
        h = torch.zeros(states, sizes[0], width, dtype=torch.float32, device="cpu")
    if layout.kind == "LSTM" and c is None:
        c = torch.zeros(states, sizes[0], height // 4, dtype=torch.float32, device="cpu")
    if not sizes[0]:
        return x.new_zeros(*x.shape[:-1], layout.directions * width), h.clone(), None if c is None else c.clone()
    rows = x.flatten(0, 1) if batch_sizes is None else x
    output, h, c = reference.run_recurrent(layout.kind, layout.weights(tensors), rows, sizes, h, c)
    return output.view(*x.shape[:-1], -1), h, c


def pack_once(layout: Hashable, tensors: Sequence[Tensor], pack: Callable[[], Packed]) -> Packed:
    """Return what was packed from these tensors, packed again if one was changed, resized or given other memory.

    Only tensors come with a call that torch.compile made, so packed weights are found by them.

    Args:
        layout: what the tensors are the weights of.
        tensors: the weights.
        pack: packs them.
    """
    entries, key = packed_weights(), (layout, *map(id, tensors))
    found, now = entries.get(key), versions(tensors)  # taken before they are packed: a change meanwhile is seen later
    if found is None or found.versions != now:
        references = [weakref.ref(tensor, lambda _: entries.pop(key, None)) for tensor in tensors]
        found = entries[key] = PackedWeights(pack(), now, references)
    return found.packed  # type: ignore[return-value] # of the type that `pack` returns


@cache
def packed_weights() -> dict[Hashable, PackedWeights]:
    """Return what is packed now, by layout and identities of tensors."""
    return {}

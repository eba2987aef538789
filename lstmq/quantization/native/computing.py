"""Computes linear and recurrent modules, with the selected kernel or with the reference.

The weights of a module come as a list of tensors. They are packed for the kernels once, and what is packed is kept as
long as the tensors live and do not change. Eager modules and the operators that torch compiles share it.
"""

import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lstmq.quantization.native import reference
from lstmq.quantization.native.layout import RecurrentLayout, linear_weights
from lstmq.quantization.native.library import REFERENCE, selected_isa

try:
    from lstmq.quantization.native.packing import PackedLinear, PackedRecurrent
except ImportError:
    PackedLinear = PackedRecurrent = None

KernelsT = TypeVar("KernelsT")


class PackedCache:
    """What was packed, by the first tensor of a module. Nothing keeps the tensors alive.

    Modules with tied weights have the same first tensor, but may have other biases.
    """

    def __init__(self) -> None:
        self._found: Any = WeakTensorKeyDictionary()

    def get(self, tensors: Sequence[Tensor], pack: Callable[[], KernelsT]) -> KernelsT:
        """Return what ``pack`` made of these tensors, made again if one was changed, resized or replaced.

        It does not see changes that torch does not count: those through ``tensor.data``, through NumPy, and of
        tensors made in inference mode.
        """
        entries = self._found.get(tensors[0], ())
        for sources, packed in entries:
            if len(sources) == len(tensors) and all(map(_is_unchanged, sources, tensors)):
                found: KernelsT = packed
                return found
        # Taken before packing, so that a change during it is seen later.
        sources = [(weakref.ref(tensor), tensor.data_ptr(), _version(tensor)) for tensor in tensors]
        packed = pack()
        current = [entry for entry in entries if all(_is_unchanged(source, source[0]()) for source in entry[0])]
        self._found[tensors[0]] = [*current, (sources, packed)]
        return packed


def _is_unchanged(source: tuple["weakref.ref[Tensor]", int, int], tensor: Tensor | None) -> bool:
    known, pointer, version = source
    return tensor is not None and known() is tensor and tensor.data_ptr() == pointer and _version(tensor) == version


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


# The operators are global, and so is what they have packed.
_PACKED = PackedCache()


def run_linear(x: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Return the output of a linear layer, float32, shape ``(rows, out_features)``.

    Args:
        x: float32, shape ``(rows, in_features)``.
        tensors: integers, scale, and perhaps a bias.
    """
    if not len(x):
        return x.new_zeros(0, len(tensors[0]))
    if (isa := selected_isa()) == REFERENCE or PackedLinear is None:
        return reference.linear(linear_weights(tensors), x)
    return _PACKED.get(tensors, lambda: PackedLinear(linear_weights(tensors))).run(isa, x)


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
    if (isa := selected_isa()) == REFERENCE or PackedLinear is None:
        output, h, c = reference.run_recurrent(layout.kind, layout.weights(tensors), rows, sizes, h, c)
    else:
        kernels = _PACKED.get(tensors, lambda: PackedRecurrent(layout.kind, layout.weights(tensors)))
        output, h, c = kernels.run(isa, rows, sizes, h, c)
    return output.view(*x.shape[:-1], -1), h, c

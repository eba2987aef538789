"""Checked copies of what modules compute with. Nobody else has them, so kernels may rely on their sizes."""

import torch
from torch import Tensor

from lstmq.quantization.native.layout import GATES
from lstmq.quantization.native.weights import MAX_COLUMNS, QuantizedRows, RecurrentWeights, check_plain, copy_tensor


def own_floats(name: str, x: Tensor) -> Tensor:
    """Return a contiguous copy of a float32 tensor, which nobody else has. Its shape is whatever it was.

    Raises:
        ValueError: if the tensor is not a plain one of float32 on the CPU.
    """
    check_plain(name, x)
    if x.is_neg() or x._is_zerotensor():  # clone would keep what says so
        x = torch.zeros(x.shape, dtype=x.dtype, device="cpu").add_(x)
    copy = x.clone(memory_format=torch.contiguous_format)
    if copy.dtype is not torch.float32 or not copy.is_cpu or copy.layout is not torch.strided:
        raise ValueError(f"{name}: expected torch.float32 on the CPU, found {copy.dtype} on {copy.device}")
    return copy


def matrix_shape(name: str, rows: QuantizedRows) -> tuple[int, int]:
    """Return height and width of a weight matrix. Raise ``ValueError`` if it is none, or too wide."""
    check_plain(name, rows.integers)
    if rows.integers.dim() != 2 or not rows.integers.numel() or rows.integers.shape[1] > MAX_COLUMNS:
        found = tuple(rows.integers.shape)
        raise ValueError(f"{name}: expected a matrix of at most {MAX_COLUMNS:,} columns, found shape {found}")
    height, width = rows.integers.shape
    return height, width


def copy_rows(name: str, rows: QuantizedRows, height: int, width: int) -> QuantizedRows:
    """Return a copy of rows of weights that have this shape. Errors as for the weights of a module."""
    integers = copy_tensor(name, rows.integers, torch.int8, (height, width))
    if integers.min() < -127:
        raise ValueError(f"{name}: expected integers from -127 to 127, found -128")
    return QuantizedRows(integers, copy_tensor(f"scale of {name}", rows.scale, torch.float32, (height,)))


def copy_direction(kind: str, weights: RecurrentWeights, input_size: int, units: int, width: int) -> RecurrentWeights:
    """Return a copy of the weights of one direction, of the shapes that these sizes require. Errors as above."""
    height, projection, new_bias = GATES[kind] * units, weights.projection, weights.new_bias
    for size in (input_size, width, units):
        if not 0 < size <= MAX_COLUMNS:
            raise ValueError(f"expected from 1 to {MAX_COLUMNS:,} columns, found {size:,}")
    return RecurrentWeights(
        copy_rows("weight_ih", weights.input, height, input_size),
        copy_rows("weight_hh", weights.recurrent, height, width),
        copy_tensor("bias", weights.bias, torch.float32, (height,)),
        None if new_bias is None else copy_tensor("bias of n", new_bias, torch.float32, (units,)),
        None if projection is None else copy_rows("weight_hr", projection, width, units),
    )

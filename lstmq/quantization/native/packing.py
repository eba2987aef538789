"""Packs a model's weights for the kernels, and calls the kernels.

Kernels read and write only NumPy arrays that this module made, whose sizes it knows, and that nobody else has during
the call. So no tensor that a user changes, resizes or replaces can lead a kernel to memory that is not its own.
"""

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p, pointer
from operator import is_
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lstmq.model import Hidden, ModelConfig
from lstmq.quantization.native import library
from lstmq.quantization.native.library import KERNEL_ISAS
from lstmq.quantization.native.weights import Array, check_state, copy_array, state_spec, window_shape

BLOCK, GROUP = 64, 4  # rows and columns that are stored together, as in csrc/kernels.h
DEPTH = 64  # columns are padded to a multiple of it


class MatrixStruct(Structure):
    """``struct matrix`` of ``csrc/kernels.h``."""

    _fields_ = (
        *((name, c_void_p) for name in ("packed", "row_sums", "scale", "bias")),
        ("blocks", c_int64),
        ("depth", c_int64),
    )


class ModelStruct(Structure):
    """``struct model`` of ``csrc/kernels.h``."""

    _fields_ = (
        *((name, c_int64) for name in ("ntoken", "ninp", "nhid", "nlayers")),
        ("encoder", c_void_p),
        ("encoder_scale", c_void_p),
        *((name, POINTER(MatrixStruct)) for name in ("w_input", "w_recurrent", "decoder")),
    )


class WindowStruct(Structure):
    """``struct window`` of ``csrc/kernels.h``."""

    _fields_ = (
        ("n", c_int64),
        ("bsz", c_int64),
        *((name, c_void_p) for name in ("input", "targets", "hidden", "cell", "loss", "logits", "workspace")),
    )


class PackedMatrix(NamedTuple):
    """A weight matrix in the order in which kernels read it: by block of rows, group of columns, row, column."""

    packed: Array  # int8, shape (blocks, depth / GROUP, BLOCK, GROUP)
    row_sums: Array  # int32, shape (blocks * BLOCK,), as are the next two
    scale: Array  # float32
    bias: Array  # float32

    def struct(self) -> MatrixStruct:
        """Return the C structure. It points to the arrays: keep them as long as it is used."""
        blocks, groups = self.packed.shape[:2]
        return MatrixStruct(*(array.ctypes.data for array in self), blocks, groups * GROUP)


def pack_matrix(integers: Array, scale: Array, bias: Array, parts: int = 1, padding_bias: float = 0.0) -> PackedMatrix:
    """Pack a weight matrix.

    Args:
        integers: int8, shape ``(rows, width)``.
        scale: float32, shape ``(rows,)``.
        bias: float32, shape ``(rows,)``.
        parts: how many equal parts the rows have, such as four gates. Each part is padded by itself.
        padding_bias: the bias of the rows that are added as padding.
    """
    height, width = len(integers) // parts, integers.shape[1]
    more_rows, more_columns = -height % (BLOCK // parts), -width % DEPTH

    def pad(rows: Array, columns: int, value: float = 0.0) -> Array:
        padding = ((0, 0), (0, more_rows), (0, columns))
        padded = np.pad(rows.reshape(parts, height, -1), padding, constant_values=value)
        return padded.reshape(parts * (height + more_rows), -1)

    padded = pad(integers, more_columns)
    blocks = padded.reshape(-1, BLOCK, padded.shape[1] // GROUP, GROUP)
    return PackedMatrix(
        packed=np.ascontiguousarray(blocks.transpose(0, 2, 1, 3)),
        row_sums=padded.sum(axis=1, dtype=np.int32),
        scale=pad(scale, 0).ravel(),
        bias=pad(bias, 0, padding_bias).ravel(),
    )


class PackedModel:
    """A copy of a model's weights as the kernels read them. Any number of threads may use it at once.

    Args:
        state: tensors as :func:`~lstmq.quantization.native.weights.state_spec` lists them.
        config: the shape of the model.

    Raises:
        ValueError: if the tensors are not those that the configuration requires.
    """

    def __init__(self, state: Mapping[str, Tensor], config: ModelConfig) -> None:
        check_state(state, config)
        self.config = config
        self._sources, self._stamps = [*state.values()], [*map(_stamp, state.values())]
        arrays = {name: copy_array(name, state[name], *spec) for name, spec in state_spec(config).items()}

        def pack(name: str, parts: int = 1, padding_bias: float = 0.0) -> PackedMatrix:
            scale = arrays[f"{name}.scale"]
            bias = arrays.get(f"{name}.bias", np.zeros_like(scale))  # a layer's bias is that of its input matrix
            return pack_matrix(arrays[f"{name}.weight"], scale, bias, parts, padding_bias)

        layers = range(config.nlayers)
        self._encoder = [arrays["encoder.weight"], arrays["encoder.scale"]]
        self._input = [pack(f"layers.{i}.input", parts=4) for i in layers]
        self._recurrent = [pack(f"layers.{i}.recurrent", parts=4) for i in layers]
        # With a bias of minus infinity, padding rows have no probability.
        self._decoder = pack("decoder", padding_bias=-np.inf)
        array = MatrixStruct * config.nlayers
        self._struct = ModelStruct(
            *(config.ntoken, config.ninp, config.nhid, config.nlayers),
            *(array.ctypes.data for array in self._encoder),
            array(*(matrix.struct() for matrix in self._input)),
            array(*(matrix.struct() for matrix in self._recurrent)),
            pointer(self._decoder.struct()),
        )

    def is_copy_of(self, tensors: Sequence[object], config: ModelConfig) -> bool:
        """Return whether these tensors were packed, and have not been changed, resized or replaced since.

        It does not see changes that torch does not count: through ``tensor.data``, through NumPy, and of tensors that
        were made in inference mode.
        """
        same = len(tensors) == len(self._sources) and all(map(is_, tensors, self._sources))
        return same and config == self.config and [*map(_stamp, self._sources)] == self._stamps

    def window_loss(self, isa: str, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the loss of a window and the state after it, as :meth:`lstmq.model.LanguageModel.window_loss` does.

        Args:
            isa: the kernel to use, one of :func:`~lstmq.quantization.native.library.available_isas` but the reference.
            input: int64 ids, shape ``(n, bsz)``.
            targets: int64 ids, shape ``(n, bsz)``.
            hidden: the state before the window.

        Raises:
            ValueError: if an argument has another shape or dtype, an id is outside the dictionary, or the kernel cannot
                run here.
        """
        shape, loss = window_shape(input), c_double()
        ids = copy_array("targets", targets, torch.int64, shape)
        pointers = {"targets": ids.ctypes.data, "loss": ctypes.addressof(loss)}
        after = self._read_window(isa, shape, input, hidden, pointers)
        return torch.tensor(loss.value, dtype=torch.float32, device="cpu"), after

    def logits(self, isa: str, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits, float32, shape ``(n, bsz, ntoken)``, and the state after. Arguments and errors as above."""
        shape = window_shape(input)
        logits = np.empty((*shape, len(self._decoder.bias)), np.float32)
        after = self._read_window(isa, shape, input, hidden, {"logits": logits.ctypes.data})
        return torch.from_numpy(logits)[..., : self.config.ntoken], after

    def _read_window(
        self, isa: str, shape: tuple[int, int], input: Tensor, hidden: Hidden, pointers: Mapping[str, int]
    ) -> Hidden:
        """Call a kernel for a window of this shape. ``pointers`` are the fields that differ from call to call."""
        kernels, available, config = library.load_library(), library.available_isas()[1:], self.config
        if kernels is None or isa not in available:
            raise ValueError(f"expected one of {', '.join(available) or 'no kernels'}, found {isa!r}")
        ids = copy_array("input", input, torch.int64, shape)
        h, c = (copy_array("hidden", x, torch.float32, (config.nlayers, shape[1], config.nhid)) for x in hidden)
        workspace = np.empty(kernels.lstmq_workspace_size(byref(self._struct), *shape), np.uint8)
        arrays = {"input": ids, "hidden": h, "cell": c, "workspace": workspace}
        window = WindowStruct(*shape, **{name: array.ctypes.data for name, array in arrays.items()}, **pointers)
        if kernels.lstmq_read_window(byref(self._struct), KERNEL_ISAS.index(isa), byref(window)):
            raise ValueError(f"expected ids from 0 to {config.ntoken - 1:,}, found another")
        return torch.from_numpy(h), torch.from_numpy(c)


def _stamp(tensor: Tensor) -> tuple[int, int]:
    """Return what differs after torch wrote to a tensor, resized it, or gave it other memory."""
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version

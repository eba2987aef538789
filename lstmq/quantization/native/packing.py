"""Packs a model's weights for the kernels, and calls the kernels.

Kernels read and write only tensors that this module made, whose sizes it knows, and that nobody else has during the
call. So no tensor that a user changes, resizes or replaces can lead a kernel to memory that is not its own.
"""

from collections.abc import Collection, Mapping
from ctypes import POINTER, Structure, byref, c_int64, c_void_p, pointer
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmq.model import Hidden, ModelConfig
from lstmq.quantization.native import library
from lstmq.quantization.native.layout import GATES
from lstmq.quantization.native.library import NO_MEMORY
from lstmq.quantization.native.weights import (
    QuantizedRows,
    RecurrentWeights,
    check_state,
    copy_state,
    copy_tensor,
    weights_from_state,
    window_shape,
)

BLOCK, GROUP, LANES = 64, 4, 16  # as in csrc/kernels.h: rows and columns that are stored together; numbers in a vector
DEPTH = 64  # columns are padded to a multiple of it


class MatrixStruct(Structure):
    """``struct matrix`` of ``csrc/kernels.h``."""

    _fields_ = (
        *((name, c_void_p) for name in ("packed", "row_sums", "scale", "bias")),
        ("blocks", c_int64),
        ("depth", c_int64),
    )


class DirectionStruct(Structure):
    """``struct direction`` of ``csrc/kernels.h``."""

    _fields_ = (
        *((name, MatrixStruct) for name in ("w_input", "w_recurrent", "w_projection")),
        *((name, c_int64) for name in ("is_gru", "input_size", "hidden_size", "units", "width")),
    )


class RecurrentStruct(Structure):
    """``struct recurrent`` of ``csrc/recurrent.c``."""

    _fields_ = (("layers", c_int64), ("directions", c_int64), ("weights", POINTER(DirectionStruct)))


class StepStruct(Structure):
    """``struct step`` of ``csrc/recurrent.c``."""

    _fields_ = (("model", c_void_p), *((name, c_int64) for name in ("isa", "threads", "columns")))


class ModelStruct(Structure):
    """``struct model`` of ``csrc/window.c``."""

    _fields_ = (
        *((name, c_int64) for name in ("ntoken", "ninp", "nhid", "nlayers")),
        ("encoder", c_void_p),
        ("encoder_scale", c_void_p),
        ("layers", POINTER(DirectionStruct)),
        ("decoder", POINTER(MatrixStruct)),
    )


class WindowStruct(Structure):
    """``struct window`` of ``csrc/window.c``."""

    _fields_ = (
        ("n", c_int64),
        ("bsz", c_int64),
        *((name, c_void_p) for name in ("input", "targets", "hidden", "cell", "loss", "logits")),
    )


class PackedMatrix(NamedTuple):
    """A weight matrix in the order in which kernels read it: by block of rows, group of columns, row, column."""

    packed: Tensor  # int8, shape (blocks, depth / GROUP, BLOCK, GROUP)
    row_sums: Tensor  # int32, shape (blocks * BLOCK,), as are the next two
    scale: Tensor  # float32
    bias: Tensor  # float32

    def struct(self) -> MatrixStruct:
        """Return the C structure. It points to the tensors: keep them as long as it is used."""
        blocks, groups = self.packed.shape[:2]
        return MatrixStruct(*(tensor.data_ptr() for tensor in self), blocks, groups * GROUP)


def pack_matrix(rows: QuantizedRows, bias: Tensor, parts: int = 1, padding_bias: float = 0.0) -> PackedMatrix:
    """Pack a weight matrix.

    Args:
        rows: the weights.
        bias: float32, one number for each row.
        parts: how many equal parts the rows have, such as four gates. Each part is padded by itself to a multiple of
            :data:`LANES` rows, and all of them together to a multiple of :data:`BLOCK`.
        padding_bias: the bias of the rows that are added as padding.
    """
    height, width = rows.integers.shape[0] // parts, rows.integers.shape[1]
    in_part, more_columns = -height % LANES, -width % DEPTH
    at_end = -parts * (height + in_part) % BLOCK

    def pad(values: Tensor, value: float = 0.0) -> Tensor:
        padded = F.pad(values.reshape(parts, height), (0, in_part), value=value).flatten()
        return F.pad(padded, (0, at_end), value=value)

    integers = F.pad(rows.integers.reshape(parts, height, width), (0, more_columns, 0, in_part)).flatten(0, 1)
    integers = F.pad(integers, (0, 0, 0, at_end))
    return PackedMatrix(
        packed=integers.view(-1, BLOCK, integers.shape[1] // GROUP, GROUP).transpose(1, 2).contiguous(),
        row_sums=integers.sum(dim=1, dtype=torch.int32),
        scale=pad(rows.scale),
        bias=pad(bias, padding_bias),
    )


class PackedDirection:
    """One direction of one recurrent layer in the order in which kernels read it.

    Args:
        kind: ``LSTM`` or ``GRU``.
        weights: all of them contiguous, on the CPU, and of shapes that fit one another.

    Attributes:
        struct: the C structure. It points to tensors that this object holds.
    """

    def __init__(self, kind: str, weights: RecurrentWeights) -> None:
        gates = GATES[kind]
        height, input_size = weights.input.integers.shape
        units = height // gates
        nothing = torch.full((height,), -0.0, dtype=torch.float32, device="cpu")  # unlike 0, it changes no sum
        of_state = nothing.clone()
        if kind == "GRU" and weights.new_bias is not None:
            of_state[2 * units :] = weights.new_bias
        self._matrices = [
            pack_matrix(weights.input, weights.bias, parts=gates),
            pack_matrix(weights.recurrent, of_state, parts=gates),
        ]
        width = units
        if weights.projection is not None:
            width = len(weights.projection.scale)
            self._matrices.append(pack_matrix(weights.projection, nothing[:width]))
        structs = [matrix.struct() for matrix in self._matrices]
        structs += [MatrixStruct()] * (3 - len(structs))
        padded = units + -units % LANES
        self.struct = DirectionStruct(*structs, kind == "GRU", input_size, units, padded, width)


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
        # Taken before the copy, so that a change during it is seen later.
        self._versions = versions(state.values())
        weights = weights_from_state(copy_state(state, config), config)
        self._encoder = weights.encoder
        self._layers = [PackedDirection("LSTM", layer) for layer in weights.layers]
        # With a bias of minus infinity, padding rows have no probability.
        self._decoder = pack_matrix(weights.decoder, weights.decoder_bias, padding_bias=-torch.inf)
        self._struct = ModelStruct(
            *(config.ntoken, config.ninp, config.nhid, config.nlayers),
            *(tensor.data_ptr() for tensor in self._encoder),
            (DirectionStruct * config.nlayers)(*(layer.struct for layer in self._layers)),
            pointer(self._decoder.struct()),
        )

    def is_copy_of(self, tensors: Collection[Tensor], config: ModelConfig) -> bool:
        """Return whether these tensors were packed, and were neither changed nor resized since.

        It does not see changes that torch does not count: those through ``tensor.data``, through NumPy, and of
        tensors made in inference mode.
        """
        return config == self.config and versions(tensors) == self._versions

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
        shape, loss = window_shape(input), torch.empty((), dtype=torch.float32, device="cpu")
        ids = copy_tensor("targets", targets, torch.int64, shape)
        after = self._read_window(isa, shape, input, hidden, targets=ids, loss=loss)
        return loss, after

    def logits(self, isa: str, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits, float32, shape ``(n, bsz, ntoken)``, and the state after. Arguments and errors as above."""
        shape = window_shape(input)
        logits = torch.empty(*shape, len(self._decoder.bias), dtype=torch.float32, device="cpu")
        after = self._read_window(isa, shape, input, hidden, logits=logits)
        return logits[..., : self.config.ntoken], after

    def _read_window(
        self, isa: str, shape: tuple[int, int], input: Tensor, hidden: Hidden, **tensors: Tensor
    ) -> Hidden:
        """Call a kernel for a window of this shape. ``tensors`` are the fields that differ from call to call."""
        (kernels, index), config = library.find_kernel(isa), self.config
        ids = copy_tensor("input", input, torch.int64, shape)
        h, c = (copy_tensor("hidden", x, torch.float32, (config.nlayers, shape[1], config.nhid)) for x in hidden)
        tensors |= {"input": ids, "hidden": h, "cell": c}
        window = WindowStruct(*shape, **{name: tensor.data_ptr() for name, tensor in tensors.items()})
        error = kernels.lstmq_read_window(byref(self._struct), index, torch.get_num_threads(), byref(window))
        if error == NO_MEMORY:
            raise MemoryError(f"int8-native: no memory for a window of shape {shape}")
        if error:
            raise ValueError(f"expected ids from 0 to {config.ntoken - 1:,}, found another")
        return h, c


def versions(tensors: Collection[Tensor]) -> list[tuple[int, int]]:
    """Return what differs after torch wrote to a tensor, resized it, or gave it other memory."""
    try:
        return [(tensor.data_ptr(), tensor._version) for tensor in tensors]
    except RuntimeError:  # a tensor that was made in inference mode has no version; to ask each one takes longer
        return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]

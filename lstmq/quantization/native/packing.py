"""Packs a model's weights for the kernels, and calls the kernels.

Kernels read and write only tensors that this module made, whose sizes it knows, and that nobody else has during the
call. So no tensor that a user changes, resizes or replaces can lead a kernel to memory that is not its own.
"""

from collections.abc import Collection, Iterable, Mapping
from ctypes import POINTER, Structure, byref, c_int64, c_void_p, pointer
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmq.model import Hidden, ModelConfig
from lstmq.quantization.native import library
from lstmq.quantization.native.library import KERNEL_ISAS
from lstmq.quantization.native.weights import (
    QuantizedRows,
    check_state,
    copy_state,
    copy_tensor,
    weights_from_state,
    window_shape,
)

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
        parts: how many equal parts the rows have, such as four gates. Each part is padded by itself.
        padding_bias: the bias of the rows that are added as padding.
    """
    height, width = rows.integers.shape[0] // parts, rows.integers.shape[1]
    more_rows, more_columns = -height % (BLOCK // parts), -width % DEPTH
    integers = F.pad(rows.integers.reshape(parts, height, width), (0, more_columns, 0, more_rows)).flatten(0, 1)
    return PackedMatrix(
        packed=integers.view(-1, BLOCK, integers.shape[1] // GROUP, GROUP).transpose(1, 2).contiguous(),
        row_sums=integers.sum(dim=1, dtype=torch.int32),
        scale=F.pad(rows.scale.reshape(parts, height), (0, more_rows)).flatten(),
        bias=F.pad(bias.reshape(parts, height), (0, more_rows), value=padding_bias).flatten(),
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
        # Taken before the copy, so that a change during it is seen later.
        self._versions = _versions(state.values())
        weights = weights_from_state(copy_state(state, config), config)
        self._encoder = weights.encoder
        self._input = [pack_matrix(layer.input, layer.bias, parts=4) for layer in weights.layers]
        self._recurrent = [pack_matrix(x.recurrent, torch.zeros_like(x.bias), parts=4) for x in weights.layers]
        # With a bias of minus infinity, padding rows have no probability.
        self._decoder = pack_matrix(weights.decoder, weights.decoder_bias, padding_bias=-torch.inf)
        array = MatrixStruct * config.nlayers
        self._struct = ModelStruct(
            *(config.ntoken, config.ninp, config.nhid, config.nlayers),
            *(tensor.data_ptr() for tensor in self._encoder),
            array(*(matrix.struct() for matrix in self._input)),
            array(*(matrix.struct() for matrix in self._recurrent)),
            pointer(self._decoder.struct()),
        )

    def is_copy_of(self, tensors: Collection[Tensor], config: ModelConfig) -> bool:
        """Return whether these tensors were packed, and were neither changed nor resized since.

        It does not see changes that torch does not count: those through ``tensor.data``, through NumPy, and of
        tensors made in inference mode.
        """
        return config == self.config and _versions(tensors) == self._versions

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
        shape, loss = window_shape(input), torch.empty((), dtype=torch.float64, device="cpu")
        ids = copy_tensor("targets", targets, torch.int64, shape)
        after = self._read_window(isa, shape, input, hidden, targets=ids, loss=loss)
        return loss.float(), after

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
        kernels, config = library.load_library(), self.config
        if kernels is None or not library.is_available(isa):
            available = library.available_isas()[1:]
            raise ValueError(f"expected one of {', '.join(available) or 'no kernels'}, found {isa!r}")
        ids = copy_tensor("input", input, torch.int64, shape)
        h, c = (copy_tensor("hidden", x, torch.float32, (config.nlayers, shape[1], config.nhid)) for x in hidden)
        size = kernels.lstmq_workspace_size(byref(self._struct), *shape)
        tensors["workspace"] = torch.empty(size, dtype=torch.uint8, device="cpu")
        tensors |= {"input": ids, "hidden": h, "cell": c}
        window = WindowStruct(*shape, **{name: tensor.data_ptr() for name, tensor in tensors.items()})
        if kernels.lstmq_read_window(byref(self._struct), KERNEL_ISAS.index(isa), byref(window)):
            raise ValueError(f"expected ids from 0 to {config.ntoken - 1:,}, found another")
        return h, c


def _versions(tensors: Iterable[Tensor]) -> list[tuple[int, int]]:
    """Return what differs after torch wrote to a tensor, resized it, or gave it other memory."""
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]

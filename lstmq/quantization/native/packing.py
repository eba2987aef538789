"""Packs a model's weights for the kernels, and calls the kernels. Python checks every size and dtype before a call."""

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, Structure, byref, c_double, c_int64, c_void_p, pointer
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmq.model import Hidden, ModelConfig
from lstmq.quantization.native import library
from lstmq.quantization.native.library import KERNEL_ISAS
from lstmq.quantization.native.weights import QuantizedRows, check_state, check_tensor, weights_from_state

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
    """A model's weights as the kernels read them. Any number of threads may use it at once.

    Args:
        state: tensors as :func:`~lstmq.quantization.native.weights.state_spec` lists them. The embedding is not copied.
        config: the shape of the model.

    Raises:
        ValueError: if the tensors are not those that the configuration requires.
    """

    def __init__(self, state: Mapping[str, Tensor], config: ModelConfig) -> None:
        check_state(state, config)
        self.config = config
        weights = weights_from_state(state, config)
        self._encoder = [tensor.contiguous() for tensor in weights.encoder]
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
        loss, targets = c_double(), check_tensor("targets", targets, torch.int64, _window_shape(input))
        after = self._read_window(isa, input, hidden, targets=targets.data_ptr(), loss=ctypes.addressof(loss))
        return torch.tensor(loss.value, dtype=torch.float32, device="cpu"), after

    def logits(self, isa: str, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits, float32, shape ``(n, bsz, ntoken)``, and the state after. Arguments and errors as above."""
        width = len(self._decoder.bias)
        logits = torch.empty(*_window_shape(input), width, dtype=torch.float32, device="cpu")
        after = self._read_window(isa, input, hidden, logits=logits.data_ptr())
        return logits[..., : self.config.ntoken], after

    def _read_window(self, isa: str, input: Tensor, hidden: Hidden, **pointers: int) -> Hidden:
        """Call a kernel. ``pointers`` are the fields of the window that differ from call to call."""
        kernels, available, config = library.load_library(), library.available_isas()[1:], self.config
        if kernels is None or isa not in available:
            raise ValueError(f"expected one of {', '.join(available) or 'no kernels'}, found {isa!r}")
        n, bsz = _window_shape(input)
        ids, shape = check_tensor("input", input, torch.int64, (n, bsz)), (config.nlayers, bsz, config.nhid)
        h, c = (check_tensor("hidden", tensor, torch.float32, shape).clone() for tensor in hidden)
        size = kernels.lstmq_workspace_size(byref(self._struct), n, bsz)
        workspace = torch.empty(size, dtype=torch.uint8, device="cpu")
        window = WindowStruct(n, bsz, ids.data_ptr(), hidden=h.data_ptr(), cell=c.data_ptr(), **pointers)
        window.workspace = workspace.data_ptr()
        if kernels.lstmq_read_window(byref(self._struct), KERNEL_ISAS.index(isa), byref(window)):
            raise ValueError(f"expected ids from 0 to {config.ntoken - 1:,}, found another")
        return h, c


def _window_shape(ids: Tensor) -> tuple[int, int]:
    if ids.dim() != 2 or not ids.numel():
        raise ValueError(f"expected ids of shape (n, bsz), found {tuple(ids.shape)}")
    return ids.shape[0], ids.shape[1]

"""The kernels of ``csrc/``: found, chosen, and called, with every size checked before.

They are a shared library without a word of torch in it, so that one build serves every version. Where it was not built,
there are none, and :mod:`lstmq.reference` computes.
"""

import ctypes
import os
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_double, c_int, c_int64, c_void_p
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from lstmq.model import Hidden, ModelConfig
from lstmq.quantization.native.reference import LSTMLayer, QuantizedRows

REFERENCE, PORTABLE = "reference", "portable"
KERNEL_ISAS = (
    PORTABLE,
    "avx2",
    "avx512_vnni",
    "amx_int8",
)  # the library numbers them so; each is faster than those before
ISA_VARIABLE = "LSTMQ_ISA"
BLOCK, GROUP = 64, 4  # rows and columns that kernels read together: how weights are packed
DEPTH = 64  # activations are padded to a multiple of it
MAX_COLUMNS = 2**16  # columns; a sum of more products may not fit into an int32


@cache
def load_library() -> ctypes.CDLL | None:
    """Return the library, if it was built."""
    spec = find_spec("lstmq.quantization.native._kernels")
    return open_library(spec.origin) if spec and spec.origin else None


def open_library(path: str) -> ctypes.CDLL:
    """Return a library of kernels."""
    found = ctypes.CDLL(path)
    found.lstmq_room.argtypes = [c_void_p, c_int64, c_int64]
    found.lstmq_room.restype = c_int64
    found.lstmq_window.argtypes = [c_void_p, c_int, c_int64, c_int64, *[c_void_p] * 7]
    return found


def available_isas() -> list[str]:
    """Return what can compute here, the slowest first."""
    return [REFERENCE, *_isas_of(load_library())]


@cache
def _isas_of(there: ctypes.CDLL | None) -> list[str]:
    return [name for place, name in enumerate(KERNEL_ISAS) if there and there.lstmq_runs(place)]


def missing_kernels() -> str:
    """Return what is wanting here for speed; empty if nothing."""
    if load_library() is None:
        return "its kernels: install lstmq where there is a C compiler"
    return "" if available_isas()[-1] != PORTABLE else "a kernel for this processor: plain C is slower than float32"


def selected_isa() -> str:
    """Return what computes: what the variable ``LSTMQ_ISA`` names, else the fastest that there is.

    Raises:
        ValueError: if that is not here.
    """
    names = available_isas()
    name = os.environ.get(ISA_VARIABLE, names[-1])
    if name not in names:
        why = "" if load_library() else "; it wants " + missing_kernels()
        raise ValueError(f"{ISA_VARIABLE}: expected one of {', '.join(names)}, found {name!r}{why}")
    return name


class MatrixStruct(Structure):
    """``struct matrix`` of ``kernels.h``."""

    _fields_ = (
        ("packed", c_void_p),
        ("sums", c_void_p),
        ("scale", c_void_p),
        ("bias", c_void_p),
        ("blocks", c_int64),
        ("depth", c_int64),
    )


class ModelStruct(Structure):
    """``struct model`` of ``kernels.h``."""

    _fields_ = (
        *((name, c_int64) for name in ("ntoken", "ninp", "nhid", "nlayers")),
        ("encoder", c_void_p),
        ("encoder_scale", c_void_p),
        ("input", POINTER(MatrixStruct)),
        ("recurrent", POINTER(MatrixStruct)),
        ("decoder", POINTER(MatrixStruct)),
    )


def pack_matrix(rows: QuantizedRows, bias: Tensor, parts: int, padding: float, kept: list[Tensor]) -> MatrixStruct:
    """Return rows in the order in which kernels read them: by block, group of columns, row.

    Args:
        rows: of weights.
        bias: float32, one for each row.
        parts: of the rows, each of which is padded by itself.
        padding: the bias of rows that are padding.
        kept: is given what the structure points to.
    """
    height, width = rows.integers.shape[0] // parts, rows.integers.shape[1]
    more, deeper = -height % (BLOCK // parts), -width % DEPTH
    integers = F.pad(rows.integers.reshape(parts, height, width), (0, deeper, 0, more)).flatten(0, 1)
    blocks, depth = len(integers) // BLOCK, integers.shape[1]
    packed = integers.view(blocks, BLOCK, depth // GROUP, GROUP).transpose(1, 2)
    scale = F.pad(rows.scale.reshape(parts, height), (0, more))
    biases = F.pad(bias.reshape(parts, height), (0, more), value=padding)
    sums = integers.sum(dim=1, dtype=torch.int32)
    return MatrixStruct(*(_pointer(each, kept) for each in (packed, sums, scale, biases)), blocks, depth)


def _pointer(tensor: Tensor, kept: list[Tensor]) -> int:
    kept.append(tensor.contiguous())
    return kept[-1].data_ptr()


class PackedModel:
    """A model's weights in the order in which kernels read them.

    Args:
        config: the shape.
        encoder: ``ntoken`` rows of ``ninp``; not copied.
        layers: ``nlayers`` of them.
        decoder: ``ntoken`` rows of ``nhid``.
        bias: the decoder's, float32, shape ``(ntoken,)``.

    Raises:
        ValueError: if a shape is not that of the configuration, or is too wide.
    """

    def __init__(
        self,
        config: ModelConfig,
        encoder: QuantizedRows,
        layers: Sequence[LSTMLayer],
        decoder: QuantizedRows,
        bias: Tensor,
    ) -> None:
        self.config = config
        if max(config.ninp, config.nhid) > MAX_COLUMNS:
            raise ValueError(f"expected at most {MAX_COLUMNS:,} columns, found {max(config.ninp, config.nhid):,}")
        self._kept: list[Tensor] = []  # what the structures point to
        _check(encoder, config.ntoken, config.ninp)
        _check(decoder, config.ntoken, config.nhid)
        if len(layers) != config.nlayers:
            raise ValueError(f"expected {config.nlayers} layers, found {len(layers)}")
        to, back = [], []
        for place, layer in enumerate(layers):
            _check(layer.input, 4 * config.nhid, config.nhid if place else config.ninp)
            _check(layer.recurrent, 4 * config.nhid, config.nhid)
            _checked(layer.bias, (4 * config.nhid,), torch.float32)
            to.append(pack_matrix(layer.input, layer.bias, 4, 0.0, self._kept))
            back.append(pack_matrix(layer.recurrent, torch.zeros_like(layer.bias), 4, 0.0, self._kept))
        _checked(bias, (config.ntoken,), torch.float32)
        # Rows that are padding have no place among the words.
        self._decoder = pack_matrix(decoder, bias, 1, -torch.inf, self._kept)
        self._layers = (MatrixStruct * len(to))(*to), (MatrixStruct * len(back))(*back)
        self._shape = ModelStruct(
            config.ntoken,
            config.ninp,
            config.nhid,
            config.nlayers,
            _pointer(encoder.integers, self._kept),
            _pointer(encoder.scale, self._kept),
            *self._layers,
            ctypes.pointer(self._decoder),
        )

    def window_loss(self, isa: str, input: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return the cross-entropy summed over the targets, in nats, float32, and the state after.

        The arguments are those of :class:`~lstmq.LanguageModel`'s ``window_loss``.

        Raises:
            ValueError: if a shape or dtype is not as said there, or an id is no word.
        """
        loss = c_double()
        after = self._read(isa, input, targets, hidden, byref(loss), None)
        return torch.tensor(loss.value, dtype=torch.float32, device="cpu"), after

    def logits(self, isa: str, input: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Return logits, float32, shape ``(n, bsz, ntoken)``, and the state after; arguments and errors likewise."""
        n, bsz = _shape_of(input)
        logits = torch.empty(n, bsz, self._decoder.blocks * BLOCK, dtype=torch.float32, device="cpu")
        after = self._read(isa, input, None, hidden, None, logits.data_ptr())
        return logits[..., : self.config.ntoken], after

    def _read(
        self, isa: str, input: Tensor, targets: Tensor | None, hidden: Hidden, loss: object, logits: int | None
    ) -> Hidden:
        there, config = load_library(), self.config
        if there is None or isa not in available_isas()[1:]:
            raise ValueError(f"expected one of {', '.join(available_isas()[1:]) or 'no kernels'}, found {isa!r}")
        n, bsz = _shape_of(input)
        ids = [_checked(each, (n, bsz), torch.int64) for each in (input, *([] if targets is None else [targets]))]
        state = (config.nlayers, bsz, config.nhid)
        h, c = (_checked(each, state, torch.float32).clone() for each in hidden)
        room = torch.empty(there.lstmq_room(byref(self._shape), n, bsz), dtype=torch.uint8, device="cpu")
        words = [each.data_ptr() for each in ids] + [None] * (targets is None)
        pointers = (*words, h.data_ptr(), c.data_ptr(), loss, logits, room.data_ptr())
        if there.lstmq_window(byref(self._shape), KERNEL_ISAS.index(isa), n, bsz, *pointers):
            raise ValueError(f"expected ids from 0 to {config.ntoken - 1:,}, found another")
        return h, c


def _shape_of(ids: Tensor) -> tuple[int, int]:
    if ids.dim() != 2 or not ids.numel():
        raise ValueError(f"expected ids of shape (n, bsz), found {tuple(ids.shape)}")
    return ids.shape[0], ids.shape[1]


def _check(rows: QuantizedRows, height: int, width: int) -> None:
    _checked(rows.integers, (height, width), torch.int8)
    _checked(rows.scale, (height,), torch.float32)


def _checked(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return it, in one piece, if it is what a kernel will take it for."""
    if tuple(tensor.shape) != shape or tensor.dtype != dtype or tensor.device.type != "cpu":
        found = f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
        raise ValueError(f"expected {dtype} of shape {shape} on the CPU, found {found}")
    return tensor.contiguous()

"""The weights of an int8-native model: their names, dtypes and shapes in a state dict."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lstmq.errors import QuantizationError
from lstmq.model import Hidden, ModelConfig

MAX_COLUMNS = 2**16  # a sum of more products may overflow an int32


class QuantizedRows(NamedTuple):
    """A matrix whose rows are integers with one scale each."""

    integers: Tensor  # int8, shape (rows, width), from -127 to 127
    scale: Tensor  # float32, shape (rows,)


class RecurrentWeights(NamedTuple):
    """The weights of one direction of one recurrent layer, or of a cell.

    The gates are in torch's order: i, f, g, o of an LSTM; r, z, n of a GRU. An LSTM has ``gates = 4``, a GRU 3.
    ``width`` is what the layer returns: ``proj_size`` if there is one, or else ``hidden_size``.
    """

    input: QuantizedRows  # gates * hidden_size rows of input_size
    recurrent: QuantizedRows  # gates * hidden_size rows of width
    bias: Tensor  # float32, shape (gates * hidden_size,): torch's two biases added; of a GRU's n, only the input's bias
    new_bias: Tensor | None = None  # of a GRU: float32, shape (hidden_size,), the bias of n that r multiplies
    projection: QuantizedRows | None = None  # of an LSTM with proj_size: proj_size rows of hidden_size


class LinearWeights(NamedTuple):
    """The weights of a linear layer."""

    rows: QuantizedRows  # out_features rows of in_features
    bias: Tensor  # float32, shape (out_features,)


class Weights(NamedTuple):
    """All weights of a model. In a tied model, encoder and decoder are the same tensors."""

    encoder: QuantizedRows  # ntoken rows of ninp
    layers: list[RecurrentWeights]
    decoder: QuantizedRows  # ntoken rows of nhid
    decoder_bias: Tensor  # float32, shape (ntoken,)


def state_spec(config: ModelConfig) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return the dtype and shape of every tensor of a model, by its name in the state dict.

    A tied model has no integers and scales of a decoder, because they would be those of the encoder.
    """
    gates = 4 * config.nhid
    matrices = {"encoder": (config.ntoken, config.ninp), "decoder": (config.ntoken, config.nhid)}
    for i in range(config.nlayers):
        matrices[f"layers.{i}.input"] = (gates, config.nhid if i else config.ninp)
        matrices[f"layers.{i}.recurrent"] = (gates, config.nhid)
    spec: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for name, shape in matrices.items():
        spec[f"{name}.weight"] = (torch.int8, shape)
        spec[f"{name}.scale"] = (torch.float32, shape[:1])
        if name.endswith(("input", "decoder")):
            spec[f"{name}.bias"] = (torch.float32, shape[:1])
    if config.tied:
        del spec["decoder.weight"], spec["decoder.scale"]
    return spec


def check_width(config: ModelConfig) -> None:
    """Raise :class:`~lstmq.QuantizationError` if the model is too wide for exact products in int32."""
    if (width := max(config.ninp, config.nhid)) > MAX_COLUMNS:
        raise QuantizationError(f"expected at most {MAX_COLUMNS:,} columns, found {width:,}")


def check_state(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise ``ValueError`` unless a state dict has exactly the tensors that the configuration requires."""
    check_width(config)
    if config.nlayers > len(state):  # before a loop over the layers, whose number may be absurd
        raise ValueError(f"expected {config.nlayers:,} layers, found {len(state)} tensors")
    expected = state_spec(config)
    if different := sorted(expected.keys() ^ state.keys()):
        raise ValueError(
            f"expected {len(expected)} tensors, found {len(state)}; the first difference is {different[0]!r:.80}"
        )
    for name, (dtype, shape) in expected.items():
        check_tensor(name, state[name], dtype, shape)


def check_tensor(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless a tensor is a plain one on the CPU, with this dtype and shape, and memory for it."""
    check_plain(name, tensor)
    if tensor.dtype != dtype or tensor.shape != shape or not tensor.is_cpu:
        found = f"{tensor.dtype} of shape {tuple(tensor.shape)} on {tensor.device}"
        raise ValueError(f"{name}: expected {dtype} of shape {shape} on the CPU, found {found}")
    last = tensor.numel() - 1
    if not tensor.is_contiguous():
        last = sum((size - 1) * stride for size, stride in zip(shape, tensor.stride(), strict=True))
    if tensor.untyped_storage().nbytes() < (tensor.storage_offset() + last + 1) * dtype.itemsize:
        raise ValueError(f"{name}: expected memory for shape {shape}, found a storage that was made smaller")


def copy_tensor(name: str, tensor: Tensor, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    """Return a contiguous copy, which has this dtype and shape whatever happens to the tensor meanwhile.

    Raises:
        ValueError: as :func:`check_tensor` does.
    """
    check_tensor(name, tensor, dtype, shape)
    return torch.empty(shape, dtype=dtype, device="cpu").copy_(tensor.detach())


def copy_state(state: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return copies of the tensors that the configuration requires. Errors as for :func:`check_tensor`."""
    return {name: copy_tensor(name, state[name], *spec) for name, spec in state_spec(config).items()}


def check_plain(name: str, tensor: Tensor) -> None:
    """Raise ``ValueError`` if a tensor is of a subclass. A fake tensor, for example, has no memory."""
    if type(tensor) not in (Tensor, nn.Parameter):
        raise ValueError(f"{name}: expected a plain tensor, found {type(tensor).__name__}")


def window_shape(ids: Tensor) -> tuple[int, int]:
    """Return the shape ``(n, bsz)`` of a window. Raise ``ValueError`` if it has another number of dimensions."""
    check_plain("input", ids)
    if ids.dim() != 2 or not ids.numel():
        raise ValueError(f"expected ids of shape (n, bsz), found {tuple(ids.shape)}")
    return ids.shape[0], ids.shape[1]


def check_window(config: ModelConfig, ids: Tensor, hidden: Hidden) -> None:
    """Raise ``ValueError`` unless ids and a state fit the model, as they must for the kernels."""
    n, bsz = window_shape(ids)
    check_tensor("input", ids, torch.int64, (n, bsz))
    for tensor in hidden:
        check_tensor("hidden", tensor, torch.float32, (config.nlayers, bsz, config.nhid))
    smallest, largest = ids.aminmax()
    if smallest < 0 or largest >= config.ntoken:
        raise ValueError(f"expected ids from 0 to {config.ntoken - 1:,}, found another")


def weights_from_state(state: Mapping[str, Tensor], config: ModelConfig) -> Weights:
    """Return the weights in a state dict. They share its memory."""

    def rows(name: str) -> QuantizedRows:
        return QuantizedRows(state[f"{name}.weight"], state[f"{name}.scale"])

    layers = [
        RecurrentWeights(rows(f"layers.{i}.input"), rows(f"layers.{i}.recurrent"), state[f"layers.{i}.input.bias"])
        for i in range(config.nlayers)
    ]
    return Weights(rows("encoder"), layers, rows("encoder" if config.tied else "decoder"), state["decoder.bias"])

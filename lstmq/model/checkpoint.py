"""State dicts in and out, safely: nothing in a file is ever executed."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lstmq.files import atomic_write
from lstmq.model.lstm import LSTMModel, ModelConfig


class CheckpointError(ValueError):
    """A file that is not a checkpoint of an :class:`LSTMModel`."""


def save_checkpoint(model: LSTMModel, path: str | Path) -> None:
    """Write the state dict of a float model, whole or not at all.

    Args:
        model: not quantized.
        path: safetensors if it ends in ``.safetensors``, else torch's format.

    Raises:
        ValueError: if the model is quantized.
        OSError: if the file cannot be written.
    """
    state = model.state_dict()
    if state.keys() != _expected_shapes(model.config).keys():
        raise ValueError(f"only a float model can be saved, found {_describe(state)}")
    state = {key: value.contiguous() for key, value in state.items()}
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".safetensors":
            safetensors.torch.save_file(state, temporary)
        else:
            torch.save(state, temporary)


def load_checkpoint(path: str | Path, dropout: float = ModelConfig.dropout) -> LSTMModel:
    """Read a checkpoint with the tutorial's keys into a float32 model, inferring its shape from the tensors.

    Args:
        path: a ``.safetensors`` file, or any format that ``torch.load(weights_only=True)`` reads, on any device;
            float16 and bfloat16 tensors are cast to float32.
        dropout: of the model that is returned; checkpoints do not say.

    Raises:
        CheckpointError: in one line, what was expected and what was found.
        OSError: if there is no such file, or it cannot be read.
    """
    state = read_tensors(path)
    try:
        if not isinstance(state, Mapping) or not all(map(_is_plain, state, state.values())):
            raise CheckpointError(f"expected a state dict of plain tensors alone, found {_describe(state)}")
        config = _infer_config(state, dropout)
        _check(state, config)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    model = LSTMModel(config)
    model.load_state_dict(state)
    return model


def read_tensors(path: str | Path) -> object:
    """Return what a safetensors file, or a torch file of nothing but tensors and plain values, holds.

    Raises:
        CheckpointError: if it is another kind of file, empty, cut, damaged, or holds code, which is not run.
        OSError: if there is no such file, or it cannot be read.
    """
    with Path(path).open("rb") as file:
        start = file.read(9)
    if not start:
        raise CheckpointError(f"{path} is empty: expected a checkpoint")
    try:
        if start[8:] == b"{":  # safetensors: eight bytes of length, then JSON
            return safetensors.torch.load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch does not check the sums that its zips carry
                if damaged := archive.testzip():
                    raise CheckpointError(f"{path}: expected a PyTorch checkpoint, found {damaged} in it damaged")
        with warnings.catch_warnings():
            # Said of files that hold more than tensors, which are refused in a moment anyway.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is a damaged or cut safetensors file: {error}") from None
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        holds_code = "GLOBAL" in str(error) or "Unsupported" in str(error)
        found = "Python objects or code, which is never run" if holds_code else "something else, or a damaged file"
        raise CheckpointError(f"{path}: expected a state dict of plain tensors, found {found}") from None
    except Exception as error:  # of a damaged archive, torch's readers raise nearly every kind there is
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: expected a PyTorch checkpoint, found a damaged or cut file ({reason})"
        ) from None


def _infer_config(state: Mapping[str, Tensor], dropout: float) -> ModelConfig:
    """Read ntoken and ninp off the encoder, nhid off the decoder, nlayers off the number of recurrent weights."""
    encoder, decoder = (_matrix(state, key) for key in ("encoder.weight", "decoder.weight"))
    nlayers = sum(key.startswith("rnn.weight_ih_l") for key in state)
    if not nlayers:
        raise CheckpointError(f"expected LSTM layers from rnn.weight_ih_l0 on, found {_describe(state)}")
    return ModelConfig(ntoken=encoder[0], ninp=encoder[1], nhid=decoder[1], nlayers=nlayers, dropout=dropout)


def _matrix(state: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    if key not in state:
        raise CheckpointError(f"expected the key {key}, found {_describe(state)}")
    shape = tuple(state[key].shape)
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"expected a matrix for {key}, found shape {shape}")
    return shape


def _check(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Compare keys, shapes and values with what ``config`` calls for, before any memory is spent on a model."""
    expected = _expected_shapes(config)
    if missing := sorted(expected.keys() - state.keys()):
        raise CheckpointError(f"missing {_listed(missing)}")
    if extra := sorted(state.keys() - expected.keys()):
        raise CheckpointError(f"unexpected: {_listed(extra)}")
    for key, shape in expected.items():
        value = state[key]
        if tuple(value.shape) != shape:
            raise CheckpointError(f"expected shape {shape} for {key}, found {tuple(value.shape)}")
        if value.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise CheckpointError(f"expected float32, float16 or bfloat16 for {key}, found {value.dtype}")
        if value.nbytes > value.untyped_storage().nbytes():
            raise CheckpointError(
                f"expected {value.nbytes:,} bytes for {key}, found {value.untyped_storage().nbytes():,}"
            )
        if not value.isfinite().all():
            raise CheckpointError(f"expected finite numbers in {key}, found NaN or infinity")


def _expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"encoder.weight": (config.ntoken, config.ninp)}
    for layer in range(config.nlayers):
        width = config.nhid if layer else config.ninp
        shapes[f"rnn.weight_ih_l{layer}"] = (4 * config.nhid, width)
        shapes[f"rnn.weight_hh_l{layer}"] = (4 * config.nhid, config.nhid)
        shapes[f"rnn.bias_ih_l{layer}"] = shapes[f"rnn.bias_hh_l{layer}"] = (4 * config.nhid,)
    return shapes | {"decoder.weight": (config.ntoken, config.nhid), "decoder.bias": (config.ntoken,)}


def _is_plain(key: object, value: object) -> bool:
    """Return whether it is a name and a tensor whose numbers are here: not sparse, nested, or without storage."""
    return (
        isinstance(key, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and not value.is_nested
        and value.device.type == "cpu"
    )


def _describe(found: object) -> str:
    return _listed([str(key) for key in found]) if isinstance(found, Mapping) else f"a {type(found).__name__}"


def _listed(keys: list[str]) -> str:
    if not keys:
        return "no keys"
    shown = ", ".join(key if key.isprintable() else ascii(key) for key in keys[:3])
    return f"the key{'s' * (len(keys) > 1)} {shown}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")

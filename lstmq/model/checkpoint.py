"""Saves and loads checkpoints. Loading never runs code from the file."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from lstmq.errors import one_line, prefix_errors
from lstmq.files import atomic_write
from lstmq.model.config import ModelConfig
from lstmq.model.lstm import LSTMModel


class CheckpointError(ValueError):
    """The file is not a checkpoint of an :class:`~lstmq.LSTMModel`."""


def save_checkpoint(model: LSTMModel, path: str | Path) -> None:
    """Write the state dict of a float model to a file, completely or not at all.

    Args:
        model: not quantized.
        path: the format is safetensors if the name ends in ``.safetensors``, and torch's otherwise.

    Raises:
        ValueError: if the model is quantized.
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> from lstmq import LSTMModel, ModelConfig, load_checkpoint, save_checkpoint
        >>> model = LSTMModel(ModelConfig(ntoken=100, ninp=16, nhid=8, nlayers=2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_checkpoint(model, f"{folder}/model.safetensors")
        ...     load_checkpoint(f"{folder}/model.safetensors").config == model.config
        True
    """
    state = model.state_dict()
    if state.keys() != _expected_shapes(model.config).keys():
        raise ValueError(f"expected a float model, found {_describe(state)}")
    state = {key: value.contiguous() for key, value in state.items()}
    with atomic_write(path) as temporary:
        if Path(path).suffix == ".safetensors":
            safetensors.torch.save_file(state, temporary)
        else:
            torch.save(state, temporary)


def load_checkpoint(path: str | Path, dropout: float = ModelConfig.dropout) -> LSTMModel:
    """Load a checkpoint that has the tutorial's keys into a float32 model, in training mode.

    The shape of the model comes from the shapes of the tensors.

    Args:
        path: a ``.safetensors`` file, or a file that ``torch.load(weights_only=True)`` reads. Its tensors are float32,
            float16 or bfloat16, from any device.
        dropout: for the new model, because checkpoints do not contain it.

    Raises:
        CheckpointError: if the file is something else, damaged or incomplete. A subclass of ``ValueError``.
        OSError: if the file cannot be read.

    Example:
        >>> from lstmq import load_checkpoint
        >>> load_checkpoint("data/sample/lstm.safetensors").config
        ModelConfig(ntoken=2750, ninp=96, nhid=96, nlayers=2, dropout=0.5)
    """
    state = read_tensors(path)
    with prefix_errors(path, CheckpointError, CheckpointError):
        if not isinstance(state, Mapping) or not all(map(_is_plain, state, state.values())):
            raise CheckpointError(f"expected a state dict of plain tensors, found {_describe(state)}")
        config = _infer_config(state, dropout)
        _check_tensors(state, config)
    model = LSTMModel(config)
    model.load_state_dict(state)
    return model


def read_tensors(path: str | Path) -> object:
    """Return the content of a safetensors file, or of a torch file with tensors and plain values only.

    Raises:
        CheckpointError: if the file is of another kind, empty, damaged or incomplete, or contains code.
        OSError: if the file cannot be read.
    """
    with Path(path).open("rb") as file:
        start = file.read(9)
    if not start:
        raise CheckpointError(f"{path} is empty: expected a checkpoint")
    try:
        if start[8:] == b"{":  # a safetensors file: a length of eight bytes, then JSON
            return safetensors.torch.load_file(path)
        _check_zip(path)
        with warnings.catch_warnings():
            # torch warns of some files that it then refuses.
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        found = f"a damaged or cut safetensors file ({one_line(error)})"
    except pickle.UnpicklingError as error:
        has_code = "GLOBAL" in str(error) or "Unsupported" in str(error)
        found = "Python objects or code, which is never run" if has_code else "another kind of file, or a damaged one"
    except Exception as error:  # torch raises many types for damaged files
        found = f"a damaged or cut file ({one_line(error)})"
    raise CheckpointError(f"{path}: expected a PyTorch checkpoint, found {found}")


def _check_zip(path: str | Path) -> None:
    """Compare the checksums in a zip, which torch does not do."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} has another checksum")


def _infer_config(state: Mapping[str, Tensor], dropout: float) -> ModelConfig:
    """Return the config that the shapes of the tensors imply."""
    ntoken, ninp = _matrix_shape(state, "encoder.weight")
    _, nhid = _matrix_shape(state, "decoder.weight")
    nlayers = sum(key.startswith("rnn.weight_ih_l") for key in state)
    if not nlayers:
        raise CheckpointError(f"expected LSTM layers from rnn.weight_ih_l0 on, found {_describe(state)}")
    return ModelConfig(ntoken=ntoken, ninp=ninp, nhid=nhid, nlayers=nlayers, dropout=dropout)


def _matrix_shape(state: Mapping[str, Tensor], key: str) -> tuple[int, int]:
    if key not in state:
        raise CheckpointError(f"expected the key {key}, found {_describe(state)}")
    shape = tuple(state[key].shape)
    if len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"expected a matrix for {key}, found shape {shape}")
    return shape


def _check_tensors(state: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Check keys, shapes, dtypes and values before a model of this shape takes any memory."""
    expected = _expected_shapes(config)
    if missing := sorted(expected.keys() - state.keys()):
        raise CheckpointError(f"missing {_list_keys(missing)}")
    if extra := sorted(state.keys() - expected.keys()):
        raise CheckpointError(f"unexpected: {_list_keys(extra)}")
    for key, shape in expected.items():
        value = state[key]
        if tuple(value.shape) != shape:
            raise CheckpointError(f"expected shape {shape} for {key}, found {tuple(value.shape)}")
        if value.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise CheckpointError(f"expected float32, float16 or bfloat16 for {key}, found {value.dtype}")
        stored = value.untyped_storage().nbytes()  # less than its numbers take, if a stride is 0
        if value.nbytes > stored:
            raise CheckpointError(f"expected {value.nbytes:,} bytes for {key}, found {stored:,}")
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
    """Return whether this is a name and an ordinary tensor: not sparse or nested, and with its numbers in memory."""
    if not isinstance(key, str) or not isinstance(value, Tensor):
        return False
    return value.layout == torch.strided and not value.is_nested and value.device.type == "cpu"


def _describe(found: object) -> str:
    return _list_keys([str(key) for key in found]) if isinstance(found, Mapping) else f"a {type(found).__name__}"


def _list_keys(keys: list[str]) -> str:
    if not keys:
        return "no keys"
    shown = ", ".join(key if key.isprintable() else ascii(key) for key in keys[:3])
    return f"the key{'s' * (len(keys) > 1)} {shown}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")

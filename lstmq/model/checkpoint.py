"""Saves and loads checkpoints. Loading never runs code from the file."""

import warnings
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch

from lstmq.errors import InputNote, prefix_errors
from lstmq.files import atomic_write
from lstmq.model.checkpoint_file import CheckpointError, list_keys, read_tensors
from lstmq.model.config import ModelConfig
from lstmq.model.lstm import LSTMModel
from lstmq.model.state_dict import check_tensors, expected_shapes, infer_config, is_tied, plain_state, strip_prefixes


def save_checkpoint(model: LSTMModel, path: str | Path) -> None:
    """Write the state dict of a float model to a file, completely or not at all.

    The matrix of a tied model is stored once. A safetensors file leaves out ``decoder.weight``, and names what it is
    the same as in its metadata, as ``safetensors.torch.save_model`` does.

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
    if state.keys() != expected_shapes(model.config).keys():
        raise ValueError(f"expected a float model, found {list_keys(state)}")
    state = {key: value.contiguous() for key, value in state.items()}
    if model.is_tied:
        state["decoder.weight"] = state["encoder.weight"]
    with atomic_write(path) as temporary:
        if Path(path).suffix != ".safetensors":
            torch.save(state, temporary)
        elif model.is_tied:
            del state["decoder.weight"]
            safetensors.torch.save_file(state, temporary, {"decoder.weight": "encoder.weight"})
        else:
            safetensors.torch.save_file(state, temporary)


def load_checkpoint(path: str | Path, dropout: float = ModelConfig.dropout) -> LSTMModel:
    """Load a checkpoint that has the tutorial's keys into a float32 model, in training mode.

    The shape of the model comes from the shapes of the tensors. The model is tied if ``decoder.weight`` equals
    ``encoder.weight``. A prefix that every key has from ``DataParallel`` or ``torch.compile`` is removed, with a
    warning of the category :class:`~lstmq.errors.InputNote`.

    Args:
        path: a ``.safetensors`` file, or a file that ``torch.load(weights_only=True)`` reads. Its tensors are float32,
            float16 or bfloat16, from any device.
        dropout: for the new model, because checkpoints do not contain it.

    Raises:
        CheckpointError: if the file is something else, damaged or incomplete. A subclass of ``ValueError``. The message
            says what the file is, and what to do.
        OSError: if the file cannot be read, or is a pipe or a device.

    Example:
        >>> from lstmq import load_checkpoint
        >>> load_checkpoint("data/sample/lstm.safetensors").config
        ModelConfig(ntoken=2750, ninp=96, nhid=96, nlayers=2, dropout=0.5, tied=False)
    """
    content = read_tensors(path)
    with prefix_errors(path, CheckpointError, CheckpointError):
        state, prefix = strip_prefixes(plain_state(content))
        config = infer_config(state, dropout)
        check_tensors(state, config)
        config = replace(config, tied=is_tied(state))
    if prefix:
        warnings.warn(f"{path}: removed the prefix {prefix} from its keys", InputNote, stacklevel=2)
    model = LSTMModel(config)
    model.load_state_dict(state)
    return model

"""Int8 models in files of their own: safetensors, nothing in which is ever executed.

The tensors are those of :func:`lstmq.native.shapes`; the metadata say which format this is, the model's configuration,
and the hash of its words.
"""

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from lstmq.files import atomic_write
from lstmq.model import ModelConfig
from lstmq.quantization.native.model import NativeModel, state_spec
from lstmq.text import Dictionary

FORMAT, VERSION = "lstmq int8-native", "1"


def vocabulary_hash(dictionary: Dictionary) -> str:
    """Return the SHA-256 of the words in their order, as hexadecimal digits."""
    return sha256("\n".join(dictionary.idx2word).encode()).hexdigest()


def save_native(model: NativeModel, dictionary: Dictionary, path: Path) -> None:
    """Write a model, whole or not at all, and read it back.

    Raises:
        ValueError: if what was read back is not what was written.
        OSError: if the file cannot be written.
    """
    metadata = {"format": FORMAT, "version": VERSION, "vocabulary": vocabulary_hash(dictionary)}
    metadata |= {"config": json.dumps(asdict(model.config))}
    state = model.state_dict()
    with atomic_write(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary, metadata)
        again = load_native(temporary, dictionary).state_dict()
        if not all(torch.equal(again[name], tensor) for name, tensor in state.items()):
            raise ValueError(f"{path}: not written: it was read back with other numbers")


def is_native_file(path: Path) -> bool:
    """Return whether a file says that it is of this format, whatever its version."""
    try:
        return bool(_metadata(path).get("format") == FORMAT)
    except (SafetensorError, OSError):
        return False


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def load_native(path: Path, dictionary: Dictionary) -> NativeModel:
    """Read a model that :func:`save` wrote.

    Args:
        path: of a file for which :func:`is_stored` is true.
        dictionary: the words that it is to know.

    Raises:
        ValueError: in one line, if it is damaged, of another version or vocabulary, or holds other tensors.
        OSError: if it cannot be read.
    """
    try:
        told = _metadata(path)
        if told.get("version") != VERSION:
            raise ValueError(f"expected version {VERSION} of {FORMAT}, found {told.get('version')!r:.80}")
        config = _config(told.get("config", ""))
        state = load_file(path)
        _check(state, config)
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    if told.get("vocabulary") != vocabulary_hash(dictionary) or config.ntoken != len(dictionary):
        raise ValueError(f"{path} is of another vocabulary: it knows {config.ntoken:,} words, others than these")
    return NativeModel(config, state)


def _config(text: str) -> ModelConfig:
    try:
        told: Any = json.loads(text)
        numbers = {name: told[name] for name in ("ntoken", "ninp", "nhid", "nlayers")}
        if not all(type(number) is int for number in numbers.values()):
            raise TypeError
        return ModelConfig(**numbers, dropout=float(told["dropout"]))
    except (KeyError, TypeError, OverflowError, RecursionError, json.JSONDecodeError):
        raise ValueError(f"expected a model's shape, found {text[:80]!r}") from None


def _check(state: dict[str, torch.Tensor], config: ModelConfig) -> None:
    """See that there is what the configuration calls for, and that a kernel may take it so."""
    if config.nlayers > len(state):
        raise ValueError(f"expected {config.nlayers:,} layers, found {len(state)} tensors")
    expected = state_spec(config)
    if other := sorted(expected.keys() ^ state.keys()):
        raise ValueError(
            f"expected {len(expected)} tensors, found {len(state)}; the first that differs is {other[0]!r:.80}"
        )
    for name, (dtype, shape) in expected.items():
        tensor = state[name]
        if tensor.dtype != dtype or tuple(tensor.shape) != shape:
            raise ValueError(
                f"expected {dtype} of shape {shape} for {name}, found {tensor.dtype} of shape {tuple(tensor.shape)}"
            )
        if dtype == torch.int8 and int(tensor.min()) < -127:
            raise ValueError(f"expected integers from -127 to 127 in {name}, found -128")
        if dtype == torch.float32 and not tensor.isfinite().all():
            raise ValueError(f"expected finite numbers in {name}, found NaN or infinity")
        if name.endswith("scale") and (tensor < 0).any():
            raise ValueError(f"expected scales of at least 0 in {name}, found one below")

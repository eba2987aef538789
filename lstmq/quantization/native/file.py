"""Reads and writes int8-native models as safetensors files. Nothing in such a file is ever executed.

The tensors are those of :func:`~lstmq.quantization.native.weights.state_spec`. The metadata holds the format and its
version, the model's configuration as JSON, and a hash of the dictionary.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from lstmq.errors import one_line, prefix_errors
from lstmq.files import atomic_write, check_input
from lstmq.model import ModelConfig
from lstmq.quantization.native.model import NativeModel
from lstmq.quantization.native.weights import check_state
from lstmq.text import Dictionary

FORMAT, VERSION = "lstmq int8-native", "1"


def save_native(model: NativeModel, dictionary: Dictionary, path: Path) -> int:
    """Write a model completely or not at all, and return its bytes.

    The file is read back and compared before it replaces an old one.

    Raises:
        ValueError: if the file does not hold what was written.
        OSError: if the file cannot be written.
    """
    config = msgspec.json.encode(model.config).decode()
    metadata = {"format": FORMAT, "version": VERSION, "config": config, "vocabulary": _vocabulary_hash(dictionary)}
    state = model.state_dict()
    with atomic_write(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary, metadata)
        copy = load_native(temporary, dictionary).state_dict()
        if not all(torch.equal(copy[name], tensor) for name, tensor in state.items()):
            raise ValueError(f"{path}: not written, because reading it back gave other numbers")
        return temporary.stat().st_size


def is_native_file(path: Path) -> bool:
    """Return whether a file is an int8-native model of any version, judging by its metadata."""
    try:
        return bool(_metadata(path).get("format") == FORMAT)
    except (SafetensorError, OSError):
        return False


def load_native(path: Path, dictionary: Dictionary) -> NativeModel:
    """Read a model that :func:`save_native` wrote.

    Args:
        path: a file for which :func:`is_native_file` is true.
        dictionary: the words that the model was trained on.

    Raises:
        ValueError: if the file is damaged, has another version or vocabulary, or does not hold the tensors that its
            configuration requires.
        OSError: if the file cannot be read.
    """
    with prefix_errors(path, SafetensorError), prefix_errors(path):
        metadata = _metadata(path)
        if metadata.get("version") != VERSION:
            raise ValueError(f"expected version {VERSION} of {FORMAT}, found {metadata.get('version')!r:.80}")
        config = _read_config(metadata.get("config", ""))
        state = load_file(path)
        check_state(state, config)
        check_values(state)
    if metadata.get("vocabulary") != _vocabulary_hash(dictionary) or config.ntoken != len(dictionary):
        raise ValueError(
            f"{path} is of another vocabulary: it knows {config.ntoken:,} words, others than the corpus has"
        )
    return NativeModel(config, state)


def _metadata(path: Path) -> dict[str, str]:
    check_input(path)
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def _vocabulary_hash(dictionary: Dictionary) -> str:
    """Return the SHA-256 of the words in order, one word per line, in hexadecimal."""
    return sha256("\n".join(dictionary.idx2word).encode()).hexdigest()


def _read_config(text: str) -> ModelConfig:
    try:
        return msgspec.json.decode(text, type=ModelConfig)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"expected a model configuration, found {text[:80]!r}: {one_line(error)}") from None


def check_values(state: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` unless all integers, scales and biases are in the range that the kernels expect."""
    for name, tensor in state.items():
        if tensor.dtype == torch.int8 and (tensor < -127).any():
            raise ValueError(f"{name}: expected integers from -127 to 127, found -128")
        if tensor.dtype == torch.float32 and not tensor.isfinite().all():
            raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")
        if name.rpartition(".")[2].startswith("scale") and (tensor < 0).any():
            raise ValueError(f"{name}: expected scales of at least 0, found a negative one")

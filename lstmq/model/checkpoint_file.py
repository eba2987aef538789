"""Reads the content of a checkpoint file, or says what the file is instead: :func:`read_tensors`."""

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lstmq.errors import one_line
from lstmq.escaping import show
from lstmq.file_kinds import describe_binary, describe_text, read_start
from lstmq.files import check_input
from lstmq.model.outline import Foreign, read_outline

AGAIN = "copy or download it again"
SAVE_STATE = "torch.save(model.state_dict(), 'weights.pth')"
SAVE_WEIGHTS = f"in the program that wrote it, save the weights alone, {SAVE_STATE}"
DEPTH = 3  # of dictionaries in dictionaries in which a state dict is searched


class CheckpointError(ValueError):
    """The file is not a checkpoint of an :class:`~lstmq.LSTMModel`."""


def read_tensors(path: str | Path) -> object:
    """Return the content of a safetensors file, or of a torch file with tensors and plain values only.

    A tensor that a safetensors file leaves out, because it shares the memory of another one, is the same tensor.

    Raises:
        CheckpointError: if the file is of another kind, empty, damaged or incomplete, or contains code. The message
            says what the file is, and what to do.
        OSError: if the file cannot be read, or is a pipe or a device.
    """
    check_input(path)
    if not (start := read_start(path)):
        raise CheckpointError(f"{path} is empty: expected a checkpoint; {AGAIN}")
    try:
        if not (found := _describe_file(path, start)):
            return _read_safetensors(path) if start[8:9] == b"{" else _read_torch(path)
    except CheckpointError:
        raise
    except SafetensorError as error:
        found = f"a damaged or cut safetensors file ({one_line(error)}): {AGAIN}"
    except Exception as error:  # torch raises many types for damaged files, and its advice is to load code
        found = _describe_unreadable(path, error)
    raise CheckpointError(f"{path}: expected a PyTorch checkpoint, found {found}")


def _read_safetensors(path: str | Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if (name := metadata.get("format", "")).startswith("lstmq "):
            raise CheckpointError(
                f"{path}: expected a float32 checkpoint, found a file in the format {show(name)}: "
                "pass the float32 checkpoint that it was made of"
            )
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it has no other iterator
    # As safetensors.torch.save_model writes it, the metadata maps the names it left out to those it kept.
    return state | {name: state[kept] for name, kept in metadata.items() if name not in state and kept in state}


def _read_torch(path: str | Path) -> object:
    with warnings.catch_warnings():
        # torch warns of some files that it then refuses.
        warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)
        return torch.load(path, map_location="cpu", weights_only=True)


def _describe_file(path: str | Path, start: bytes) -> str:
    """Return what a file is that is no checkpoint, and the next step; empty if it may be one."""
    if kind := describe_text(start):
        shown = show(start[:40].decode(errors="replace"))
        return f"text that starts with {shown}: pass the file with the weights" if kind == "text" else kind
    if start.startswith(b"PK"):
        if not zipfile.is_zipfile(path):
            return f"a damaged or cut zip archive, such as torch writes: {AGAIN}"
        with zipfile.ZipFile(path) as archive:
            return _describe_zip(archive)
    return describe_binary(start, SAVE_WEIGHTS)


def _describe_zip(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return f"a TorchScript archive: save its weights, model = torch.jit.load(FILE); {SAVE_STATE}"
    if any(name.endswith("/archive_format") for name in names):
        return f"a program of torch.export: {SAVE_WEIGHTS}"
    if not any(name.endswith("data.pkl") for name in names):
        kind = "a NumPy archive" if names and all(name.endswith(".npy") for name in names) else "a zip archive"
        return f"{kind} with {show(', '.join(names[:3])) or 'nothing in it'}: pass the checkpoint that it was made of"
    damaged = archive.testzip()  # compares the checksums, which torch does not do
    return f"a damaged file, because {show(damaged)} in it has another checksum: {AGAIN}" if damaged else ""


def _describe_unreadable(path: str | Path, error: Exception) -> str:
    """Return what a file is that torch cannot read as plain tensors, and the next step."""
    try:
        outline, is_torch = read_outline(path)
    except Exception:
        is_pickle = isinstance(error, pickle.UnpicklingError)
        return f"another kind of file, or a damaged one: {AGAIN}" if is_pickle else f"a damaged or cut file: {AGAIN}"
    is_state = isinstance(outline, Mapping) and all(map(is_tensor, outline.values()))
    if is_state and not is_torch:
        return f"a plain pickle: {SAVE_WEIGHTS}"
    return f"a damaged or cut file: {AGAIN}" if is_state else describe_content(outline)


def describe_content(content: Any) -> str:
    """Return what the content of a file is that is not the state dict of a float model, and the next step.

    Args:
        content: as torch loaded it, or its outline.
    """
    if isinstance(content, Foreign):
        return f"a whole pickled object of the class {show(content.origin)}, whose code is never run: {SAVE_WEIGHTS}"
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}: {SAVE_WEIGHTS}"
    if any("_packed_params" in str(key) for key in content) or any(map(_is_quantized, content.values())):
        return "the state dict of a model that torch quantized: pass the float32 checkpoint that it was made of"
    if inner := [*_find_state_dicts(content)]:
        places = " or ".join("".join(f"[{key!r}]" for key in path) for path in inner[:3])
        example = "".join(f"[{key!r}]" for key in inner[0])
        return (
            f"a dictionary with {list_keys(content)}, whose state dict is at {show(places)}: save that alone, "
            f"torch.save(checkpoint{show(example)}, 'weights.pth')"
        )
    classes = {value.origin for value in content.values() if isinstance(value, Foreign) and not value.is_tensor}
    if classes:
        return f"Python objects ({show(', '.join(sorted(classes)[:3]))}), whose code is never run: {SAVE_WEIGHTS}"
    return f"a dictionary with {list_keys(content)}, which is no state dict of plain tensors: {SAVE_WEIGHTS}"


def _find_state_dicts(content: Mapping[Any, Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to each state dict inside a dictionary."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            if value and all(map(is_tensor, value.values())) and any(str(name).endswith("weight") for name in value):
                yield (*path, key)
            elif len(path) < DEPTH:
                yield from _find_state_dicts(value, (*path, key))


def is_tensor(value: object) -> bool:
    """Return whether a value is a tensor, or stands for one in an outline."""
    return isinstance(value, Tensor) or (isinstance(value, Foreign) and value.is_tensor)


def _is_quantized(value: object) -> bool:
    is_outlined = isinstance(value, Foreign) and value.origin == "torch._utils._rebuild_qtensor"
    return is_outlined or (isinstance(value, Tensor) and value.is_quantized)


def list_keys(keys: Iterable[Any]) -> str:
    """Return a few keys of a dictionary, in words."""
    names = [show(str(key)) for key in keys]
    if not names:
        return "no keys"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the key{'s' * (len(names) > 1)} {', '.join(names[:3])}{more}"

"""Writes int8-native models of any kind as safetensors files, and reads them into a skeleton.

Nothing in such a file is ever executed: the skeleton is a float32 model that the user's own code makes. The file holds
the tensors of the state dict, each once. Its metadata says which modules are in int8.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lstmq.errors import one_line, prefix_errors
from lstmq.files import atomic_write, check_input
from lstmq.model import LSTMModel
from lstmq.quantization.native.conversion import TYPES, make_empty, quantize_modules
from lstmq.quantization.native.file import check_values
from lstmq.quantization.native.folding import original_type
from lstmq.quantization.native.model import NativeModel, quantize_native
from lstmq.quantization.native.modules import Int8Module
from lstmq.quantization.native.weights import check_tensor

FORMAT, VERSION = "lstmq int8 modules", "1"


def save_int8(model: nn.Module, path: str | Path) -> int:
    """Write a model that ``quantize(..., "int8-native")`` made, completely or not at all, and return its bytes.

    Args:
        model: int8-native. Its modules that are not int8 are written as they are.
        path: where to write. The file is read back and compared before it replaces an old one.

    Raises:
        ValueError: if nothing in the model is int8-native, or its state holds something else than tensors; or if the
            file does not hold what was written.
        OSError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from lstmq import quantize, save_int8
        >>> with tempfile.TemporaryDirectory() as folder:  # 27,648 int8 weights, and scales, biases and names
        ...     save_int8(quantize(nn.GRU(80, 64), "int8-native"), f"{folder}/gru.safetensors") // 1000
        30
    """
    if not (modules := _describe(model)):
        raise ValueError(f'expected a model that quantize(..., "int8-native") made, found {type(model).__name__}')
    names = _distinct_names(model)
    state = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in names.items()}
    metadata = {"format": FORMAT, "version": VERSION, "modules": msgspec.json.encode(modules).decode()}
    with atomic_write(path) as temporary, prefix_errors(path, SafetensorError):
        save_file(state, temporary, metadata)
        copy = load_file(temporary)
        if not all(torch.equal(_bytes(copy[name]), _bytes(tensor)) for name, tensor in state.items()):
            raise ValueError(f"{path}: not written, because reading it back gave other numbers")
        return temporary.stat().st_size


def load_int8(path: str | Path, skeleton: nn.Module) -> nn.Module:
    """Return the model that :func:`save_int8` wrote.

    Args:
        path: the file.
        skeleton: a float32 model of the same class and shape as the one that was quantized. Its weights do not matter,
            and it does not change. What the file does not hold, such as buffers that are not persistent, comes from it.

    Raises:
        ValueError: if the file is damaged, is of another format or version, or does not fit the skeleton.
        OSError: if the file cannot be read.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from lstmq import load_int8, quantize, save_int8
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = save_int8(quantize(nn.GRU(80, 64), "int8-native"), f"{folder}/gru.safetensors")
        ...     load_int8(f"{folder}/gru.safetensors", skeleton=nn.GRU(80, 64))
        Int8GRU(80, 64)
    """
    with prefix_errors(path, SafetensorError), prefix_errors(path):
        check_input(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        model = _quantize_like(skeleton, _read_modules(metadata))
        names, state = _distinct_names(model), load_file(path)
        _check_state(state, names)
        prefixes = [f"{name}." if name else "" for name, module in model.named_modules() if _is_int8(module)]
        check_values({name: state[name] for name in state if name.startswith(tuple(prefixes))})
        with prefix_errors(path, RuntimeError):
            first = {id(tensor): name for name, tensor in names.items()}
            every = model.state_dict(keep_vars=True)
            model.load_state_dict({name: state[first[id(tensor)]] for name, tensor in every.items()})
    return model


def _is_int8(module: nn.Module) -> bool:
    return isinstance(module, Int8Module | NativeModel)


def _describe(model: nn.Module) -> dict[str, str]:
    """Return what the modules in int8 are, by their names."""
    if isinstance(model, NativeModel):
        return {"": f"NativeModel {msgspec.json.encode(model.config).decode()}"}
    modules = model.named_modules(remove_duplicate=False)
    return {name: repr(module) for name, module in modules if isinstance(module, Int8Module)}


def _describe_float(module: nn.Module) -> str:
    """Return what the module would be in int8; or its type, if it cannot be in int8."""
    return repr(make_empty(module)) if original_type(module) in TYPES else type(module).__name__


def _distinct_names(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of the state dict, tied ones once, under the first of their names."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name}: expected a tensor in the state dict, found {type(tensor).__name__}")
        found.setdefault(id(tensor), (name, tensor))
    return dict(found.values())


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


def _read_modules(metadata: dict[str, str]) -> dict[str, str]:
    if (found := metadata.get("format")) != FORMAT:
        raise ValueError(f"expected a file in the format {FORMAT}, found {found!r:.80}")
    if (version := metadata.get("version")) != VERSION:
        raise ValueError(f"expected version {VERSION} of {FORMAT}, found {version!r:.80}")
    text = metadata.get("modules", "")
    try:
        modules = msgspec.json.decode(text, type=dict[str, str])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"expected modules by their names, found {text[:80]!r}: {one_line(error)}") from None
    if not modules:
        raise ValueError("expected modules in int8, found none")
    return modules


def _quantize_like(skeleton: nn.Module, modules: dict[str, str]) -> nn.Module:
    """Return the skeleton with the modules in int8 that a file has.

    Raises:
        ValueError: if the skeleton does not have them, or has others.
    """
    if isinstance(skeleton, LSTMModel) and modules.keys() == {""}:
        whole = quantize_native(skeleton)
        _check_same("", modules[""], _describe(whole)[""])
        return whole
    if _describe(skeleton):
        raise ValueError("expected a skeleton in float32, found modules in int8")
    parts = dict(skeleton.named_modules(remove_duplicate=False))
    for name, expected in modules.items():
        if name not in parts:
            raise ValueError(f"the skeleton, a {type(skeleton).__name__}, has no module {name!r:.80}")
        _check_same(name, expected, _describe_float(parts[name]))
    # What the file does not have in int8 stays float32, but for modules inside which others are in int8.
    return quantize_modules(skeleton, {name for name in parts if not _holds(name, modules)})


def _check_same(name: str, expected: str, found: str) -> None:
    if found != expected:
        raise ValueError(f"{name!r:.80} in the file is {expected!r:.200}, in the skeleton {found!r:.200}")


def _holds(name: str, modules: Iterable[str]) -> bool:
    """Return whether a module is one of these, or has one of them inside it."""
    return not name or any(other == name or other.startswith(f"{name}.") for other in modules)


def _check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` unless a file has exactly the tensors of a model."""
    if different := sorted(expected.keys() ^ state.keys()):
        raise ValueError(
            f"expected {len(expected)} tensors, found {len(state)}; the first difference is {different[0]!r:.80}"
        )
    for name, tensor in expected.items():
        check_tensor(name, state[name], tensor.dtype, tuple(tensor.shape))

"""Checks before and after quantization. They keep a scheme from returning a model that is not quantized."""

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from lstmq.errors import QuantizationError
from lstmq.model import LSTMModel


def kept_modules(model: nn.Module, keep: Sequence[str]) -> frozenset[str]:
    """Return the names of the modules that patterns match, and of the modules inside them.

    Args:
        model: float32.
        keep: patterns of names, with ``*`` and ``?``.

    Raises:
        ValueError: if a pattern matches no module.
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    for pattern in keep:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"keep: no module of {type(model).__name__} matches {pattern!r}; it has {_some(names[1:])}"
            )
    matches = {name for name in names if any(fnmatchcase(name, pattern) for pattern in keep)}
    return frozenset(name for name in names if matches & {name, *_ancestors(name)})


def _ancestors(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def check_modules(
    model: nn.Module, types: tuple[type[nn.Module], ...], kept: Collection[str] = (), may_be_root: bool = False
) -> None:
    """Check that a model contains modules of these types, all in float32.

    Args:
        model: float32.
        types: what the scheme quantizes.
        kept: names of the modules that stay float32.
        may_be_root: whether the model itself may be of such a type.

    Raises:
        QuantizationError: if it does not, or is of such a type itself and may not be.
    """
    kind = type(model).__name__
    if isinstance(model, types) and not may_be_root:
        raise QuantizationError(f"the model itself is of type {kind}, which torch cannot replace: put it in a module")
    found = [(name, part) for name, part in _of_types(model, types, kept) if any(True for _ in part.parameters())]
    if not found:
        names = ", ".join(kind.__name__ for kind in types)
        raise QuantizationError(
            f"nothing to quantize: {kind} holds no float {names}{' besides kept ones' * bool(kept)}"
        )
    for name, module in found:
        if other := _dtypes(module) - {torch.float32}:
            raise QuantizationError(f"{name}, a {type(module).__name__}, is {other.pop()}: expected float32")


def check_quantized(model: nn.Module, types: tuple[type[nn.Module], ...], kept: Collection[str] = ()) -> None:
    """Check that a quantized model contains no recurrent module, and none of these types, in float32.

    The projection in ``nn.MultiheadAttention`` may stay: torch gave it a type of its own, to say that it must.

    Raises:
        QuantizationError: if it does.
    """
    recurrent = (nn.RNNBase, nn.RNNCellBase)
    left = [
        (name, part) for name, part in _of_types(model, (*types, *recurrent), kept) if torch.float32 in _dtypes(part)
    ]
    if left:
        name, part = left[0]
        others = f", and so would {_some([name for name, _ in left[1:]])}" if left[1:] else ""
        raise QuantizationError(
            f"{name or 'the model'}, a {type(part).__name__}, would stay float32{others}. "
            f"If it may, pass keep=({name!r},) or --keep {name}"
        )


def _of_types(
    model: nn.Module, types: tuple[type[nn.Module], ...], kept: Collection[str]
) -> Iterator[tuple[str, nn.Module]]:
    for name, part in model.named_modules():
        if isinstance(part, types) and name not in kept and not isinstance(part, NonDynamicallyQuantizableLinear):
            yield name, part


def _some(names: Sequence[str]) -> str:
    """Return the first names as a list in words."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def check_float32(model: LSTMModel) -> None:
    """Check that the embedding, the LSTM and the decoder are torch's own modules, in float32.

    Raises:
        QuantizationError: if they are not.
    """
    for part, kind in ((model.encoder, nn.Embedding), (model.rnn, nn.LSTM), (model.decoder, nn.Linear)):
        if type(part) is not kind:
            raise QuantizationError(f"nothing to quantize: expected {kind.__name__}, found {type(part).__name__}")
        if other := _dtypes(part) - {torch.float32}:
            raise QuantizationError(f"{kind.__name__} is {other.pop()}: expected float32")


def _dtypes(module: nn.Module) -> set[torch.dtype]:
    return {weight.dtype for weight in module.parameters()}

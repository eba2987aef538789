"""Checks before and after quantization. They keep a scheme from returning a model that is not quantized."""

import torch
from torch import nn

from lstmq.errors import QuantizationError
from lstmq.model import LSTMModel


def check_modules(model: nn.Module, types: tuple[type[nn.Module], ...]) -> None:
    """Check that a model contains modules of these types, all in float32, and is not of such a type itself.

    Raises:
        QuantizationError: if it does not.
    """
    if isinstance(model, types):
        kind = type(model).__name__
        raise QuantizationError(f"the model itself is of type {kind}, which torch cannot replace: put it in a module")
    found: dict[str, nn.Module] = {name: part for name, part in model.named_modules() if isinstance(part, types)}
    if not found:
        names = ", ".join(kind.__name__ for kind in types)
        raise QuantizationError(f"nothing to quantize: {type(model).__name__} holds no float {names}")
    for name, module in found.items():
        if other := _dtypes(module) - {torch.float32}:
            raise QuantizationError(f"{name}, a {type(module).__name__}, is {other.pop()}: expected float32")


def check_quantized(model: nn.Module, types: tuple[type[nn.Module], ...]) -> None:
    """Check that a quantized model contains no module of these types in float32.

    Raises:
        QuantizationError: if it does.
    """
    for name, module in model.named_modules():
        if isinstance(module, types) and torch.float32 in _dtypes(module):
            raise QuantizationError(f"{name}, a {type(module).__name__}, would stay float32")


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

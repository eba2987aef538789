"""int8 with torch.ao: PyTorch's eager quantization, which PyTorch will remove."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lstmq.errors import QuantizationError, one_line
from lstmq.quantization.checks import check_modules, check_quantized


def quantize_dynamic(model: nn.Module, embedding: str | None = None) -> nn.Module:
    """Return a copy of a float32 model with its LSTM and linear modules in int8, in evaluation mode.

    The quantization is dynamic: torch quantizes weights once, and activations each time the model reads.

    Args:
        model: float32.
        embedding: torch's name for the new dtype of embeddings: ``quint8`` or ``quint4x2`` stores each row in 8 or 4
            bits, with a scale and an offset. ``None`` leaves embeddings float32.

    Raises:
        QuantizationError: if the model contains no such module, or is such a module itself; if a module is not float32,
            or would stay float32; if this torch cannot quantize a module, or has no dynamic quantization.
    """
    types: tuple[type[nn.Module], ...] = (nn.LSTM, nn.Linear, *([nn.Embedding] if embedding else []))
    check_modules(model, types)
    quantized = _call_torch(model, embedding)
    check_quantized(quantized, types)
    return quantized


def _call_torch(model: nn.Module, embedding: str | None) -> nn.Module:
    """Call torch's quantize_dynamic, which quantizes a copy of the model."""
    with warnings.catch_warnings():
        # Both warnings say that torch will remove eager quantization.
        warnings.filterwarnings("ignore", r"torch\.ao\.quantization is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", r".*quantized tensor creation functions", UserWarning)
        try:
            from torch.ao import quantization as ao

            configs: dict[type[nn.Module], Any] = dict.fromkeys((nn.LSTM, nn.Linear), ao.default_dynamic_qconfig)
            if embedding == "quint8":
                configs[nn.Embedding] = ao.float_qparams_weight_only_qconfig
            four_bits: Any = ao.float_qparams_weight_only_qconfig_4bit
            torch_quantize: Any = ao.quantize_dynamic
        except (ImportError, AttributeError):
            raise QuantizationError(
                f"removed in torch {torch.__version__}: dynamic quantization, which torch 2.0 to 2.15 have"
            ) from None
        if any(isinstance(module, nn.LSTM) and module.proj_size for module in model.modules()):
            raise QuantizationError("an LSTM with proj_size cannot be quantized: torch's int8 LSTM has no projection")
        try:
            quantized: nn.Module = torch_quantize(model, configs)
            if embedding == "quint4x2":
                _quantize_embeddings(quantized, four_bits.weight)
        except (AssertionError, AttributeError, RuntimeError, TypeError) as error:  # from modules that torch rejects
            raise QuantizationError(f"torch cannot quantize this {type(model).__name__}: {one_line(error)}") from error
        return quantized


def _quantize_embeddings(model: nn.Module, observer: Callable[[], Any]) -> None:
    """Replace each embedding by a 4-bit one. torch's quantize_dynamic cannot do this."""
    from torch.ao.nn.quantized import Embedding

    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if type(child) is nn.Embedding:
                rows, width = child.weight.shape
                if width % 2:  # torch packs two numbers into a byte, and would return one column too many
                    raise QuantizationError(f"{name}: expected an even width to quantize to 4 bits, found {width}")
                observed = observer()
                observed(child.weight)
                scales, offsets = (part.float() for part in observed.calculate_qparams())
                packed = torch.quantize_per_channel(child.weight.detach(), scales, offsets, 0, torch.quint4x2)
                setattr(parent, name, Embedding(rows, width, _weight=packed, dtype=torch.quint4x2))

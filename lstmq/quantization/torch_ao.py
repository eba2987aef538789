"""int8 with torch.ao: PyTorch's eager quantization, which PyTorch will remove."""

import warnings
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import nn

from lstmq.errors import QuantizationError, one_line
from lstmq.model import LanguageModel, copy_module
from lstmq.quantization.checks import check_modules, check_quantized


def quantize_dynamic(
    model: nn.Module, kept: Collection[str] = (), *, types: Sequence[str], embedding: str | None = None
) -> nn.Module:
    """Return a copy of a float32 model with its recurrent and linear modules in int8, in evaluation mode.

    The quantization is dynamic: torch quantizes weights once, and activations each time the model reads.

    Args:
        model: float32.
        kept: names of modules that stay float32.
        types: names of the classes in ``torch.nn`` whose modules are quantized.
        embedding: torch's name for the new dtype of embeddings: ``quint8`` or ``quint4x2`` stores each row in 8 or 4
            bits, with a scale and an offset. ``None`` leaves embeddings float32.

    Raises:
        QuantizationError: if the model contains no such module, or is such a module itself; if a module is not float32,
            or would stay float32; if this torch cannot quantize a module, or has no dynamic quantization.
    """
    classes = tuple(getattr(nn, name) for name in types)
    check_modules(model, classes, kept)
    quantized = _call_torch(model, kept, classes, embedding)
    check_quantized(quantized, classes, kept)
    _complete(quantized)
    return quantized


def _call_torch(
    model: nn.Module, kept: Collection[str], types: Sequence[type[nn.Module]], embedding: str | None
) -> nn.Module:
    """Call torch's quantize_dynamic on a copy of the model."""
    with warnings.catch_warnings():
        # Both warnings say that torch will remove eager quantization.
        warnings.filterwarnings("ignore", r"torch\.ao\.quantization is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", r".*quantized tensor creation functions", UserWarning)
        try:
            from torch.ao import quantization as ao

            configs: dict[Any, Any] = dict.fromkeys(types, ao.default_dynamic_qconfig) | dict.fromkeys(kept)
            if embedding:
                configs[nn.Embedding] = ao.float_qparams_weight_only_qconfig if embedding == "quint8" else None
            four_bits: Any = ao.float_qparams_weight_only_qconfig_4bit
            torch_quantize: Any = ao.quantize_dynamic
        except (ImportError, AttributeError):
            raise QuantizationError(
                f"removed in torch {torch.__version__}: dynamic quantization, which torch 2.0 to 2.15 have"
            ) from None
        for name, module in model.named_modules():
            if isinstance(module, nn.LSTM) and module.proj_size and name not in kept:
                raise QuantizationError(
                    f"{name}: an LSTM with proj_size cannot be quantized: torch has no int8 version"
                )
        try:
            quantized: nn.Module = torch_quantize(copy_module(model), configs, inplace=True)
            if embedding == "quint4x2":
                _quantize_embeddings(quantized, four_bits.weight, kept)
        except (AssertionError, AttributeError, RuntimeError, TypeError) as error:  # from modules that torch rejects
            raise QuantizationError(f"torch cannot quantize this {type(model).__name__}: {one_line(error)}") from error
        return quantized


def _quantize_embeddings(model: nn.Module, observer: Callable[[], Any], kept: Collection[str]) -> None:
    """Replace each embedding by a 4-bit one. torch's quantize_dynamic cannot do this."""
    from torch.ao.nn.quantized import Embedding

    for prefix, parent in [*model.named_modules()]:
        for name, child in parent.named_children():
            if type(child) is nn.Embedding and f"{prefix}.{name}".lstrip(".") not in kept:
                rows, width = child.weight.shape
                if width % 2:  # torch packs two numbers into a byte, and would return one column too many
                    raise QuantizationError(f"{name}: expected an even width to quantize to 4 bits, found {width}")
                observed = observer()
                observed(child.weight)
                scales, offsets = (part.float() for part in observed.calculate_qparams())
                packed = torch.quantize_per_channel(child.weight.detach(), scales, offsets, 0, torch.quint4x2)
                setattr(parent, name, Embedding(rows, width, _weight=packed, dtype=torch.quint4x2))


def _complete(model: nn.Module) -> None:
    """Give the quantized model what code for the float32 model asks it for.

    ``flatten_parameters`` of a recurrent module does nothing. An embedding reads ids that are not contiguous. And
    ``next(model.parameters())``, which tells an ``init_hidden`` the dtype and the device, finds an empty parameter if
    torch packed them all.
    """
    for module in model.modules():
        if hasattr(module, "_all_weight_values"):  # an LSTM or a GRU of torch.ao
            vars(module).setdefault("flatten_parameters", _do_nothing)
        if "torch.ao" in type(module).__module__ and type(module).__name__ == "Embedding":
            module.register_forward_pre_hook(_make_contiguous)
    if not isinstance(model, LanguageModel) and not any(True for _ in model.parameters()):
        model.register_parameter("_float32", nn.Parameter(torch.empty(0), requires_grad=False))


def _make_contiguous(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(x.contiguous() if isinstance(x, torch.Tensor) else x for x in inputs)


def _do_nothing() -> None:
    """Stand in for the ``flatten_parameters`` of ``nn.LSTM``."""

"""Quantization by torch itself: its eager int8, which is on its way out, and bfloat16. Modules in, modules out."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lstmq.errors import QuantizationError, one_line
from lstmq.model import LSTMModel

Quantizer = Callable[[Any], nn.Module]
INT8_MODULES: dict[type[nn.Module], str] = {nn.LSTM: "qint8", nn.Linear: "qint8"}


def dynamic_quantizer(weights: Mapping[type[nn.Module], str]) -> Quantizer:
    """Return what makes a quantized copy of a float32 model, in evaluation mode.

    Args:
        weights: what becomes of the weights of each type of module. ``qint8`` is PyTorch's dynamic quantization:
            the activations are quantized as they come. ``quint8`` and ``quint4x2`` are for embeddings: 8 or 4 bits, a
            scale and an offset a row. ``bfloat16`` casts the whole model. The names are torch's, as text, since torch
            is about to drop some.
    """
    types = tuple(weights)

    def make(model: nn.Module) -> nn.Module:
        """Raise :class:`QuantizationError` rather than return a model that is not quantized.

        If nothing in the model, or only the model itself, is of such a type; if such a module is not float32 or would
        stay so; if this torch lacks dynamic quantization, or the means for such a module.
        """
        _check_before(model, types)
        if set(weights.values()) == {"bfloat16"}:
            quantized = copy.deepcopy(model).to(torch.bfloat16).eval()
        else:
            quantized = _call_quantize_dynamic(model, weights)
        for name, module in quantized.named_modules():
            if isinstance(module, types) and torch.float32 in _dtypes(module):
                raise QuantizationError(f"{name}, a {type(module).__name__}, would stay float32")
        return quantized

    return make


def _check_before(model: nn.Module, types: tuple[type[nn.Module], ...]) -> None:
    """See that there is something to quantize, all of it float32, and none of it the model itself."""
    if isinstance(model, types):
        kind = type(model).__name__
        raise QuantizationError(f"the model itself is of type {kind}, which torch cannot replace: put it in a module")
    found: dict[str, nn.Module] = {name: part for name, part in model.named_modules() if isinstance(part, types)}
    if not found:
        wanted = ", ".join(kind.__name__ for kind in types)
        raise QuantizationError(f"nothing to quantize: {type(model).__name__} holds no float {wanted}")
    for name, module in found.items():
        if other := _dtypes(module) - {torch.float32}:
            raise QuantizationError(f"{name}, a {type(module).__name__}, is {other.pop()}: expected float32")


def check_float32(model: LSTMModel) -> None:
    """Raise :class:`QuantizationError` unless all of the model is as it was made: for whoever reads its weights."""
    for part, kind in ((model.encoder, nn.Embedding), (model.rnn, nn.LSTM), (model.decoder, nn.Linear)):
        if type(part) is not kind:
            raise QuantizationError(f"nothing to quantize: expected {kind.__name__}, found {type(part).__name__}")
        if other := _dtypes(part) - {torch.float32}:
            raise QuantizationError(f"{kind.__name__} is {other.pop()}: expected float32")


def _dtypes(module: nn.Module) -> set[torch.dtype]:
    return {weight.dtype for weight in module.parameters()}


def _call_quantize_dynamic(model: nn.Module, weights: Mapping[type[nn.Module], str]) -> nn.Module:
    """Call torch's quantize_dynamic, which copies the model first, with a configuration a module type."""
    with warnings.catch_warnings():
        # Both say that eager quantization will go. Whoever asks for these schemes knows, and came here to watch it.
        warnings.filterwarnings("ignore", r"torch\.ao\.quantization is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", r".*quantized tensor creation functions", UserWarning)
        try:
            from torch.ao import quantization as ao

            configs = {"qint8": ao.default_dynamic_qconfig, "quint8": ao.float_qparams_weight_only_qconfig}
            four_bits: Any = ao.float_qparams_weight_only_qconfig_4bit
            quantize_dynamic: Any = ao.quantize_dynamic
        except (ImportError, AttributeError):
            raise QuantizationError(
                f"removed in torch {torch.__version__}: dynamic quantization, which torch 2.0 to 2.15 have"
            ) from None
        if any(isinstance(module, nn.LSTM) and module.proj_size for module in model.modules()):
            raise QuantizationError("an LSTM with proj_size cannot be quantized: torch's int8 LSTM has no projection")
        try:
            known = {kind: configs[dtype] for kind, dtype in weights.items() if dtype in configs}
            quantized: nn.Module = quantize_dynamic(model, known)
            if "quint4x2" in weights.values():
                _quantize_embeddings(quantized, four_bits.weight)
        except (AssertionError, AttributeError, RuntimeError, TypeError) as error:  # of modules that it does not expect
            raise QuantizationError(f"torch cannot quantize this {type(model).__name__}: {one_line(error)}") from error
        return quantized


def _quantize_embeddings(model: nn.Module, observer: Callable[[], Any]) -> None:
    """Put 4-bit embeddings into a model; torch's quantize_dynamic makes them for 8 bits, and breaks off."""
    from torch.ao.nn.quantized import Embedding

    for parent in [*model.modules()]:
        for name, child in parent.named_children():
            if type(child) is nn.Embedding:
                rows, width = child.weight.shape
                if width % 2:  # torch packs two into a byte, and gives a column too many
                    raise QuantizationError(f"{name}: expected an even width to quantize to 4 bits, found {width}")
                observed = observer()
                observed(child.weight)
                scales, offsets = (each.float() for each in observed.calculate_qparams())
                packed = torch.quantize_per_channel(child.weight.detach(), scales, offsets, 0, torch.quint4x2)
                setattr(parent, name, Embedding(rows, width, _weight=packed, dtype=torch.quint4x2))


def check_engine(engine: str | None) -> None:
    """Raise :class:`QuantizationError` if this torch, on this machine, lacks the engine."""
    supported = set(getattr(_backend(), "supported_engines", ())) - {"none"}
    if engine is not None and engine not in supported:
        there = ", ".join(sorted(supported)) or "none"
        raise QuantizationError(f"no engine {engine!r} in torch {torch.__version__} on this machine: it has {there}")


@contextmanager
def using_engine(engine: str | None) -> Iterator[None]:
    """Set torch's quantized engine inside the block."""
    check_engine(engine)
    backend, before = _backend(), default_engine()
    try:
        if engine is not None:
            backend.engine = engine
        yield
    finally:
        if backend is not None:
            backend.engine = before


def default_engine() -> str:
    """Return torch's own engine, or ``none``."""
    return str(getattr(_backend(), "engine", "none"))


def _backend() -> Any:
    """Return torch's module of engines, if it still has one."""
    return getattr(torch.backends, "quantized", None)

"""Schemes: a float32 model in, a smaller and faster one out. A scheme is one entry of :data:`SCHEMES`."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A way to make a model smaller and faster.

    Attributes:
        summary: a few words for people.
        weights: what becomes of the weights of each type of module. ``qint8`` is PyTorch's dynamic quantization:
            the activations are quantized as they come. ``quint8`` is for embeddings: a scale and an offset a row.
            ``bfloat16`` casts the whole model. The names are torch's, as text, since torch is about to drop some.
    """

    summary: str
    weights: Mapping[type[nn.Module], str]


SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme(
        summary="LSTM and linear layers in int8",
        weights={nn.LSTM: "qint8", nn.Linear: "qint8"},
    ),
    "int8-embedding": Scheme(
        summary="int8, and the embedding's rows in 8 bits",
        weights={nn.LSTM: "qint8", nn.Linear: "qint8", nn.Embedding: "quint8"},
    ),
    "bf16": Scheme(
        summary="everything in bfloat16",
        weights={nn.LSTM: "bfloat16", nn.Linear: "bfloat16", nn.Embedding: "bfloat16"},
    ),
}


class QuantizationError(ValueError):
    """A model that cannot be quantized as asked, or a torch that cannot do it."""


def quantize(model: ModuleT, scheme: str = "int8", engine: str | None = None) -> ModuleT:
    """Return a quantized copy of ``model``, in evaluation mode; ``model`` itself is left as it was, bit by bit.

    Args:
        model: float32, with LSTM, linear or embedding modules inside it.
        scheme: a key of :data:`SCHEMES`.
        engine: torch's backend for the int8 products: x86, fbgemm, onednn or qnnpack. It is packed into the copy
            and torch's own setting is restored. Without it, torch's setting holds.

    Raises:
        QuantizationError: rather than returning a model that is not quantized: if nothing in the model, or only the
            model itself, is of a type that the scheme quantizes, if such a module would stay float32, if this torch
            lacks the engine, or dynamic quantization.
        ValueError: if there is no such scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"no such scheme: {scheme!r}, expected one of {', '.join(SCHEMES)}")
    weights = SCHEMES[scheme].weights
    types = tuple(weights)
    if isinstance(model, types):
        kind = type(model).__name__
        raise QuantizationError(f"the model itself is an {kind}, which torch cannot replace: put it in a module")
    if not any(isinstance(module, types) for module in model.modules()):
        wanted = ", ".join(kind.__name__ for kind in types)
        raise QuantizationError(f"nothing to quantize: {type(model).__name__} holds no float {wanted}")
    if set(weights.values()) == {"bfloat16"}:
        quantized = copy.deepcopy(model).to(torch.bfloat16).eval()
    else:
        with _engine(engine):
            quantized = _quantize_dynamic(model, weights)
    for name, module in quantized.named_modules():
        if isinstance(module, types) and any(weight.dtype == torch.float32 for weight in module.parameters()):
            raise QuantizationError(f"{name}, a {type(module).__name__}, would stay float32 under {scheme}")
    return quantized


def _quantize_dynamic(model: ModuleT, weights: Mapping[type[nn.Module], str]) -> ModuleT:
    """Call torch's quantize_dynamic, which copies the model first, with a configuration a module type."""
    with warnings.catch_warnings():
        # Both say that eager quantization will go. Whoever asks for these schemes knows, and came here to watch it.
        warnings.filterwarnings("ignore", r"torch\.ao\.quantization is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", r".*quantized tensor creation functions", UserWarning)
        try:
            from torch.ao import quantization as ao

            configs = {"qint8": ao.default_dynamic_qconfig, "quint8": ao.float_qparams_weight_only_qconfig}
            quantize_dynamic: Any = ao.quantize_dynamic
        except (ImportError, AttributeError):
            raise QuantizationError(
                f"torch {torch.__version__} has no dynamic quantization: torch 2.0 to 2.15 are known to have it"
            ) from None
        quantized: ModuleT = quantize_dynamic(model, {kind: configs[dtype] for kind, dtype in weights.items()})
        return quantized


@contextmanager
def _engine(engine: str | None) -> Iterator[None]:
    """Set torch's quantized engine inside the block."""
    backend = torch.backends.quantized
    if engine is not None and engine not in backend.supported_engines:
        supported = ", ".join(sorted(set(backend.supported_engines) - {"none"}))
        raise QuantizationError(
            f"no engine {engine!r} in torch {torch.__version__} on this machine: it has {supported}"
        )
    before = backend.engine
    try:
        if engine is not None:
            backend.engine = engine
        yield
    finally:
        backend.engine = before

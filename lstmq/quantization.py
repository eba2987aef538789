"""Schemes: a float32 model in, a smaller and faster one out. A scheme is one entry of :data:`SCHEMES`."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from lstmq.errors import in_a_line

ModuleT = TypeVar("ModuleT", bound=nn.Module)
FLOAT32 = "float32"  # what a model is before any scheme


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
            model itself, is of a type that the scheme quantizes, if such a module is not float32 or would stay so,
            or if this torch lacks the engine, dynamic quantization, or the means for such a module.
        ValueError: if there is no such scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"no such scheme: {scheme!r}, expected one of {', '.join(SCHEMES)}")
    weights = SCHEMES[scheme].weights
    types = tuple(weights)
    with using_engine(engine):
        _check_before(model, types)
        if set(weights.values()) == {"bfloat16"}:
            quantized = copy.deepcopy(model).to(torch.bfloat16).eval()
        else:
            quantized = _quantize_dynamic(model, weights)
    for name, module in quantized.named_modules():
        if isinstance(module, types) and torch.float32 in _dtypes(module):
            raise QuantizationError(f"{name}, a {type(module).__name__}, would stay float32 under {scheme}")
    return quantized


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


def _dtypes(module: nn.Module) -> set[torch.dtype]:
    return {weight.dtype for weight in module.parameters()}


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
                f"removed in torch {torch.__version__}: dynamic quantization, which torch 2.0 to 2.15 have"
            ) from None
        if any(isinstance(module, nn.LSTM) and module.proj_size for module in model.modules()):
            raise QuantizationError("an LSTM with proj_size cannot be quantized: torch's int8 LSTM has no projection")
        try:
            quantized: ModuleT = quantize_dynamic(model, {kind: configs[dtype] for kind, dtype in weights.items()})
        except (AssertionError, AttributeError, RuntimeError, TypeError) as error:  # of modules that it does not expect
            raise QuantizationError(f"torch cannot quantize this {type(model).__name__}: {in_a_line(error)}") from error
        return quantized


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

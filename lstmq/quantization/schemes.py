"""Schemes: a float32 model in, a smaller and faster one out. A scheme is one entry of :data:`SCHEMES`."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from torch import nn

from lstmq.errors import QuantizationError
from lstmq.model import LanguageModel, LSTMModel
from lstmq.quantization import torch_compile
from lstmq.quantization.native import kernels, model
from lstmq.quantization.onnx import session
from lstmq.quantization.torch_ao import INT8_MODULES, Quantizer, dynamic_quantizer, using_engine

FLOAT32 = "float32"  # what a model is before any scheme
ALL = "all"  # schemes there are


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """A way to make a model smaller and faster.

    Attributes:
        summary: a few words for people.
        make: returns another model for a float32 one, which it leaves as it was, bit by bit; it raises
            :class:`QuantizationError` rather than return a model that is not quantized.
        missing: returns what the scheme needs besides torch and has not here, empty if nothing.
        wants: returns what it wants here besides, without which it is right, but slow; empty if nothing.
        of: the kind of model that it is for.
        by_default: whether it is measured where nobody says what to measure.
    """

    summary: str
    make: Quantizer
    missing: Callable[[], str] = str
    wants: Callable[[], str] = str
    of: type[nn.Module] = nn.Module
    by_default: bool = True


SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme(
        summary="LSTM and linear layers in int8",
        make=dynamic_quantizer(INT8_MODULES),
    ),
    "int8-embedding": Scheme(
        summary="int8, and the embedding's rows in 8 bits",
        make=dynamic_quantizer(INT8_MODULES | {nn.Embedding: "quint8"}),
    ),
    "int8-embedding4": Scheme(
        summary="int8, and the embedding's rows in 4 bits",
        make=dynamic_quantizer(INT8_MODULES | {nn.Embedding: "quint4x2"}),
    ),
    "bf16": Scheme(
        summary="everything in bfloat16",
        make=dynamic_quantizer(torch_compile.BFLOAT16),
    ),
    "bf16-compile": Scheme(
        summary="everything in bfloat16, compiled by torch",
        make=torch_compile.quantize_compiled,
        missing=torch_compile.missing_compiler,
        of=LSTMModel,
        by_default=False,
    ),
    "int8-native": Scheme(
        summary="everything in int8 by kernels of this package's",
        make=model.quantize_native,
        wants=kernels.missing_kernels,
        of=LSTMModel,
    ),
    "ort-fp32": Scheme(
        summary="float32 by ONNX Runtime",
        make=session.onnx_quantizer(()),
        missing=session.missing_packages,
        of=LSTMModel,
        by_default=False,
    ),
    "ort-int8": Scheme(
        summary="everything in int8 by ONNX Runtime",
        make=session.onnx_quantizer(("LSTM", "MatMul", "Gather")),
        missing=session.missing_packages,
        of=LSTMModel,
    ),
    "ort-int8-linear-lstm": Scheme(
        summary="LSTM and linear layers in int8 by ONNX Runtime",
        make=session.onnx_quantizer(("LSTM", "MatMul")),
        missing=session.missing_packages,
        of=LSTMModel,
        by_default=False,
    ),
}


def select_schemes(
    asked: Sequence[str], model: nn.Module, known: Collection[str] = SCHEMES.keys()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the schemes that are meant, each once, and those that are left out with what they need.

    Args:
        asked: keys of :data:`SCHEMES`, which are meant whatever they need; or ``all`` among them; if empty, those that
            are measured by default.
        model: to quantize.
        known: from which to choose where none is asked for by its name.
    """
    if asked and ALL not in asked:
        return tuple(dict.fromkeys(asked)), {}
    meant = [name for name in SCHEMES if name in known and (SCHEMES[name].by_default or asked)]
    needs = {name: need for name in meant if (need := _unmet_requirement(name, model) or SCHEMES[name].wants())}
    return tuple(name for name in meant if name not in needs), needs


def _unmet_requirement(scheme: str, model: nn.Module) -> str:
    """Return what a scheme needs and has not here; empty if nothing."""
    of = SCHEMES[scheme].of
    return SCHEMES[scheme].missing() or (
        "" if isinstance(model, of) else f"an {of.__name__}, found {type(model).__name__}"
    )


@overload
def quantize(model: LanguageModel, scheme: str = ..., engine: str | None = ...) -> LanguageModel: ...
@overload
def quantize(model: nn.Module, scheme: str = ..., engine: str | None = ...) -> nn.Module: ...
def quantize(model: nn.Module, scheme: str = "int8", engine: str | None = None) -> nn.Module:
    """Return a quantized copy of ``model``, in evaluation mode; ``model`` itself is left as it was, bit by bit.

    Args:
        model: float32, with LSTM, linear or embedding modules inside it; for another engine than torch, an
            :class:`~lstmq.LSTMModel`.
        scheme: a key of :data:`SCHEMES`.
        engine: torch's backend for the int8 products: x86, fbgemm, onednn or qnnpack. It is packed into the copy
            and torch's own setting is restored. Without it, torch's setting holds.

    Raises:
        QuantizationError: rather than returning a model that is not quantized: if the scheme has nothing to quantize
            in it, or something would stay float32; if this torch lacks the engine or dynamic quantization; if what the
            scheme needs is not installed.
        ValueError: if there is no such scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"no such scheme: {scheme!r}, expected one of {', '.join(SCHEMES)}")
    if needs := _unmet_requirement(scheme, model):
        raise QuantizationError(f"{scheme} needs {needs}")
    with using_engine(engine):
        return SCHEMES[scheme].make(model)

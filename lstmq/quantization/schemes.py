"""Quantization schemes: the table :data:`SCHEMES`, and :func:`quantize`, which applies one.

To add a scheme, add an entry to the table; CONTRIBUTING.md lists what else to change. This module does not import
torch: each scheme imports what it needs when it is first used.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, overload

from lstmq.errors import QuantizationError

if TYPE_CHECKING:
    from torch import nn

    from lstmq.model import LanguageModel

FLOAT32 = "float32"  # stands for the model before quantization
ALL = "all"  # stands for all schemes


@dataclass(frozen=True)
class Scheme:
    """A way to make a model smaller and faster.

    Attributes:
        summary: a few words for tables and help texts.
        quantize: takes a float32 model, leaves it unchanged, and returns a new model. Raises
            :class:`~lstmq.QuantizationError` if the new model would not be quantized.
        missing: returns what the scheme needs and this environment does not have; empty if it has all.
        slow_without: returns what would make the scheme fast and this environment does not have. The scheme works
            without it. Empty if nothing.
        language_models_only: whether the scheme accepts only an :class:`~lstmq.LSTMModel`, and no other module.
        default: whether the scheme is measured when the user names no scheme.
    """

    summary: str
    quantize: Callable[[Any], "nn.Module"]
    _: KW_ONLY
    missing: Callable[[], str] = str
    slow_without: Callable[[], str] = str
    language_models_only: bool = False
    default: bool = True


def _lazy(module: str, function: str, *arguments: Any) -> Callable[..., Any]:
    """Return a function that imports ``function`` when it is called, and passes it ``arguments`` after its own."""

    def call(*first_arguments: Any) -> Any:
        return getattr(import_module(f"lstmq.quantization.{module}"), function)(*first_arguments, *arguments)

    return call


_int8, _to_onnx = partial(_lazy, "torch_ao", "quantize_dynamic"), partial(_lazy, "onnx", "to_onnx_model")
_compiled = partial(Scheme, missing=_lazy("bfloat16", "missing_compiler"), language_models_only=True, default=False)
_native = partial(Scheme, slow_without=_lazy("native", "missing_kernels"), language_models_only=True)
_onnx = partial(Scheme, missing=_lazy("onnx", "missing_packages"), language_models_only=True)

SCHEMES: Mapping[str, Scheme] = {
    "int8": Scheme("LSTM and linear layers in int8", _int8()),
    "int8-embedding": Scheme("int8, and the embedding's rows in 8 bits", _int8("quint8")),
    "int8-embedding4": Scheme("int8, and the embedding's rows in 4 bits", _int8("quint4x2")),
    "bf16": Scheme("everything in bfloat16", _lazy("bfloat16", "cast_to_bfloat16")),
    "bf16-compile": _compiled("everything in bfloat16, compiled by torch", _lazy("bfloat16", "compile_in_bfloat16")),
    "int8-native": _native("everything in int8, with our own kernels", _lazy("native", "quantize_native")),
    "ort-fp32": _onnx("float32 in ONNX Runtime", _to_onnx(), default=False),
    "ort-int8": _onnx("everything in int8 in ONNX Runtime", _to_onnx(("LSTM", "MatMul", "Gather"))),
    "ort-int8-linear-lstm": _onnx(
        "ort-int8 with the embedding in float32", _to_onnx(("LSTM", "MatMul")), default=False
    ),
}
"""The quantization schemes by name. ``lstmq compare`` and the benchmarks measure those whose ``default`` is true.

Example:
    >>> from lstmq import SCHEMES
    >>> SCHEMES["int8"].summary
    'LSTM and linear layers in int8'
"""


def select_schemes(
    names: Sequence[str], model: "nn.Module", known: Collection[str] = SCHEMES.keys()
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the schemes to measure, and the schemes to leave out with what each of them needs.

    Args:
        names: keys of :data:`SCHEMES`, which are selected even if they cannot run. ``all`` selects all schemes that
            can run at full speed, and an empty sequence the default ones among them.
        model: the float32 model. Some schemes accept only an :class:`~lstmq.LSTMModel`.
        known: keys of :data:`SCHEMES` to choose from if ``names`` is empty or contains ``all``.
    """
    if names and ALL not in names:
        return tuple(dict.fromkeys(names)), {}
    candidates = [name for name in SCHEMES if name in known and (SCHEMES[name].default or names)]
    needs = {name: _unmet_need(name, model) or SCHEMES[name].slow_without() for name in candidates}
    left_out = {name: need for name, need in needs.items() if need}
    return tuple(name for name in candidates if name not in left_out), left_out


def _unmet_need(scheme: str, model: "nn.Module") -> str:
    """Return what a scheme needs to quantize the model here and does not have; empty if it has all."""
    from lstmq.model import LanguageModel, LSTMModel

    if missing := SCHEMES[scheme].missing():
        return missing
    if SCHEMES[scheme].language_models_only and not isinstance(model, LSTMModel):
        is_engine = isinstance(model, LanguageModel)
        hint = "" if is_engine else " (load_checkpoint makes one of a state dict with the tutorial's keys)"
        return f"an LSTMModel, found {type(model).__name__}{hint}"
    return ""


@overload
def quantize(model: "LanguageModel", scheme: str = ..., engine: str | None = ...) -> "LanguageModel": ...
@overload
def quantize(model: "nn.Module", scheme: str = ..., engine: str | None = ...) -> "nn.Module": ...
def quantize(model: "nn.Module", scheme: str = "int8", engine: str | None = None) -> "nn.Module":
    """Return a quantized copy of a model, in evaluation mode. The model itself does not change.

    Args:
        model: float32, with LSTM, linear or embedding modules inside it. The schemes ``bf16-compile``, ``int8-native``
            and ``ort-*`` accept only an :class:`~lstmq.LSTMModel`.
        scheme: a key of :data:`~lstmq.SCHEMES`.
        engine: torch's backend for int8 products: x86, fbgemm, onednn or qnnpack. The copy uses this engine from now
            on; torch's own setting does not change. The default is torch's own setting.

    Raises:
        QuantizationError: if there is nothing to quantize, or a module would stay float32; if the environment does not
            have what the scheme needs; if torch does not support the engine.
        ValueError: if there is no such scheme.

    Example:
        >>> from lstmq import LSTMModel, ModelConfig, model_size, quantize
        >>> model = LSTMModel(ModelConfig(ntoken=100, ninp=64, nhid=64, nlayers=2))
        >>> int8 = quantize(model, "int8")
        >>> model_size(int8).total < model_size(model).total
        True
    """
    from lstmq.quantization.engines import using_engine

    if scheme not in SCHEMES:
        raise ValueError(f"no such scheme: {scheme!r}, expected one of {', '.join(SCHEMES)}")
    if need := _unmet_need(scheme, model):
        raise QuantizationError(f"{scheme} needs {need}")
    with using_engine(engine):
        return SCHEMES[scheme].quantize(model)
